"""A checkpoint of ours in ModelScope's stock pipeline: the same scores, the same tags, the same entities.

Where the stock pipeline (1.40.2) crashes or answers differently, ours answers, and a test here says how:

- the empty text: RuntimeError; a text of which the word mode reads nothing, too
- more than 510 characters: RuntimeError where it reads characters, silently cut where it reads words
- a literal `[SEP]`: read as one token, offsets behind it count it as one character, nothing behind it is labelled
- tags that no scheme allows (I without B, B and no E): made into entities one way or another
- by default the word mode takes the slow tokenizer: ValueError for any character the vocabulary lacks
- XLM-R's words begin at the white space before them
- a score is the first character's alone, and a numpy number, which JSON refuses
"""

import copy
import itertools
import json
import logging
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nerloop import checkpoint, trainer
from nerloop.checkpoint import DESCRIPTION, Provenance
from nerloop.documents import Document, Entity
from nerloop.encoder import TransformerEncoder
from nerloop.predictor import Predictor
from nerloop.raner import WEIGHTS, published_keys, read_raner
from nerloop.tagger import Tagger, weights_key
from nerloop.tagging import Decoder, TagSet
from nerloop.tokenizer import SubwordTokenizer
from nerloop.trainer import Recipe, Trainer

TEXTS = 200
LONGEST = 510  # what BERT's 512 positions leave
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
PEOPLE = ("张三", "李四", "王小明", "欧阳修", "Anna", "赵")
PLACES = ("北京", "上海市", "新河镇", "ＡＢ路", "纽约", "NYC")
GROUPS = ("阿里巴巴", "协和医院", "北京大学", "IBM", "联合国")
SENTENCES = ("{PER}在{LOC}的{ORG}工作。", "{PER}，{PER}和{PER}去了{LOC}！", "{ORG} 位于 {LOC}", "听说{ORG}请了{PER}来")
NAMES = {"PER": PEOPLE, "LOC": PLACES, "ORG": GROUPS}
# What annotators paste: rare characters, emoji of several code points, other widths and scripts, white space of all
# kinds, combining and control characters.
SEVERAL = ("👨‍👩‍👧", "🇨🇳", "e\u0301", "한국", "かな", "——", "……", "《》", "\r\n", "  ")
WORDS = ("hello", "world", "COVID-19", "http://a.cn/?b=1", "a@b.cn", "3.14", "[MASK", "##a", "C++", "R&D")
SPACES = "\t\n \u3000\u00a0\u200b\u200d\ufeff\x00\x1b\u2028\ue000"
AWKWARD = (*"😀𠮷龘𪚥Ａ１，％éÜßİاﷺ½", *SPACES, *SEVERAL, *WORDS)
CHARACTERS = sorted(
    {*"".join((*PEOPLE, *PLACES, *GROUPS, *SENTENCES)).lower(), *"abcdefghijklmnopqrstuvwxyz0123456789,.!?-:/@#&，。！"}
    - {" ", "{", "}"}
)
PIECES = ("hello", "wor", "##ld", "an", "##na", "i", "##bm", *(f"##{c}" for c in "abcdeo0123"))
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*CHARACTERS, *PIECES]))

Found = tuple[str, int, int]


def document(rng: random.Random, length: int) -> Document:
    """A text of some length, sentences with their entities between awkward pieces."""
    text, entities = "", []
    while len(text) < length:
        rare = chr(rng.choice((rng.randrange(0x4E00, 0x9FFF), rng.randrange(0x20000, 0x2A6D0), rng.randrange(33, 127))))
        text += rng.choice(("", rng.choice(AWKWARD), rare, rng.choice(CHARACTERS)))
        for piece in re.split("[{}]", rng.choice(SENTENCES)):
            name = rng.choice(NAMES.get(piece, (piece,)))
            if piece in NAMES:
                entities.append(Entity(len(text), len(text) + len(name), piece))
            text += name
    return Document("", text[:length], tuple(entity for entity in entities if entity.end <= length))


def any_length(rng: random.Random) -> int:
    return rng.choice((rng.randint(1, 20), rng.randint(20, 120), rng.randint(120, LONGEST), LONGEST))


def awkward_texts(tokenizer: SubwordTokenizer, number: int) -> list[str]:
    """Random texts of 1 to 510 characters and ids, with names in them; always the same."""
    rng = random.Random(1)
    texts = ["张", "。", "😀", "A", "\u3000", "三" * LONGEST, "张三在北京" * 102, "ＡＢ路" * 170]
    texts += [document(rng, any_length(rng)).text for _ in range(number - len(texts))]
    for place in range(number):
        while len(tokenizer.tokenize(texts[place]).ids) > LONGEST:  # some characters are several ids
            texts[place] = texts[place][:-1]
    return texts


@pytest.fixture(scope="module", autouse=True)
def quiet_and_alone() -> Iterator[None]:
    """One thread, because those of models this small wait for each other; fp32, because no test may go by a timing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(trainer, "set_threads", lambda _: None)
        patch.setattr(trainer, "bf16_pays", lambda _: False)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a WordPiece vocabulary."""
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tagger(vocabulary: Path) -> Tagger:
    """A small RaNER, fine-tuned from nothing until it knows its sentences."""
    rng = random.Random(0)
    config = {"model_type": "bert", "vocab_size": len(VOCABULARY), "max_position_embeddings": 512, **SMALL}
    tokenizer = SubwordTokenizer.read(vocabulary, "bert", split_into_characters=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Tagger(TransformerEncoder(tokenizer, config), Decoder.flat(["LOC", "ORG", "PER"]))
    documents = [document(rng, rng.randint(10, 100)) for _ in range(240)]
    Trainer(Recipe(learning_rate=1e-3, epochs=8)).fit(made, documents, [])
    return made


@dataclass(frozen=True)
class Answer:
    """What the stock pipeline says of a text: logits [L, K] and tags of its units, entities."""

    logits: Tensor
    tags: list[int]
    entities: list[Found]


class Stock:
    """ModelScope's pipeline on a directory, as anyone would call it; it is listened to, and nothing of it replaced."""

    def __init__(self, folder: Path, **options: Any) -> None:
        from modelscope.pipelines import pipeline
        from modelscope.utils.logger import get_logger

        get_logger(log_level=logging.ERROR)
        self.pipeline = pipeline("named-entity-recognition", str(folder), device="cpu", **options)
        self._heard: dict[str, Any] = {}
        forward = self.pipeline.forward

        def listen(*args: Any, **kwargs: Any) -> Any:
            self._heard = forward(*args, **kwargs)
            return self._heard

        self.pipeline.forward = listen

    def answer(self, text: str) -> Answer:
        """Call the pipeline with a text."""
        output = self.pipeline(text)["output"]
        mask = self._heard["label_mask"][0]
        return Answer(
            self._heard["logits"][0, : int(mask.sum())],
            self._heard["predictions"][0][mask].tolist(),
            [(entity["type"], int(entity["start"]), int(entity["end"])) for entity in output],
        )


def save(tagger: Tagger, folder: Path) -> Path:
    checkpoint.save(tagger, Provenance("none", ""), folder)
    return folder


def save_as_others_do(tagger: Tagger, folder: Path) -> Path:
    """Write a RaNER directory whose CRF weights are as they were learned, with nothing forbidden in them."""
    save(tagger, folder)
    learned = {f"crf.{name}": weight.detach()[0] for name, weight in tagger.crf.named_parameters()}
    torch.save(published_keys(tagger) | learned, folder / WEIGHTS)
    (folder / DESCRIPTION).unlink()
    return folder


@pytest.fixture(scope="module")
def folder(tagger: Tagger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tagger, tmp_path_factory.mktemp("checkpoint") / "small-v1")


@pytest.fixture(scope="module")
def stock(folder: Path) -> Stock:
    return Stock(folder)


@pytest.fixture(scope="module")
def ours(folder: Path) -> Predictor:
    return Predictor(checkpoint.load(folder).tagger, "small-v1")


def scores_of(predictor: Predictor, text: str) -> Tensor:
    """Our tag scores of the units of a text, [L, K]."""
    with torch.inference_mode():
        return predictor.emissions([predictor.tagger.encoder.tokenizer.tokenize(text)])[0][0]


def unmasked_tags(tagger: Tagger, scores: Tensor) -> list[int]:
    """Our Viterbi with all transitions allowed, as ModelScope's are."""
    crf = copy.deepcopy(tagger.crf)
    for allowed in (crf.allowed, crf.allowed_start, crf.allowed_end):
        allowed.fill_(True)
    with torch.inference_mode():
        return crf.decode(scores[None, None], torch.tensor([len(scores)])).tags[0, 0].tolist()


def is_legal(tag_set: TagSet, tags: Sequence[int]) -> bool:
    follows = all(tag_set.may_follow(one, other) for one, other in itertools.pairwise(tags))
    return follows and tag_set.may_start(tags[0]) and tag_set.may_end(tags[-1])


def entities_of(predictor: Predictor, text: str) -> list[Found]:
    (prediction,) = predictor.predict([text])
    return [(entity.label, entity.start, entity.end) for entity in prediction.entities]


def as_it_is(text: str, entity: Found) -> Found:
    return entity


def without_space_before(text: str, entity: Found) -> Found:
    label, start, end = entity
    return label, end - len(text[start:end].lstrip()), end


def agree(
    predictor: Predictor, stock: Stock, texts: Sequence[str], theirs: Callable[[str, Found], Found] = as_it_is
) -> tuple[float, int]:
    """Compare text by text; return the share of legal paths and the number of entities that were compared."""
    tagger, legal, entities = predictor.tagger, 0, 0
    for text in texts:
        scores, answer = scores_of(predictor, text), stock.answer(text)
        assert scores.shape == answer.logits.shape, repr(text)
        assert torch.allclose(scores, answer.logits, atol=1e-4, rtol=0), repr(text)
        assert unmasked_tags(tagger, scores) == answer.tags, repr(text)
        if is_legal(tagger.decoder.layers[0], answer.tags):
            assert entities_of(predictor, text) == [theirs(text, entity) for entity in answer.entities], repr(text)
            legal += 1
            entities += len(answer.entities)
    return legal / len(texts), entities


def test_a_checkpoint_of_ours_says_the_same_in_the_stock_pipeline(ours: Predictor, stock: Stock) -> None:
    tokenizer = ours.tagger.encoder.tokenizer
    assert isinstance(tokenizer, SubwordTokenizer)
    texts = awkward_texts(tokenizer, TEXTS)

    legal, entities = agree(ours, stock, texts)

    assert {len(text) for text in texts} >= {1, LONGEST}
    assert legal == 1.0  # what the scheme forbids stands in the weights, so that the stock CRF keeps to it too
    assert entities > 1000


def test_of_a_model_that_forbids_nothing_scores_and_tags_are_the_same_all_the_same(
    tagger: Tagger, tmp_path: Path
) -> None:
    folder = save_as_others_do(tagger, tmp_path / "learned")
    reader = Predictor(read_raner(folder), "")
    texts = awkward_texts(reader.tagger.encoder.tokenizer, 60)

    legal, _ = agree(reader, Stock(folder), texts)

    assert 0 < legal < 1  # both kinds were compared


def test_the_model_that_is_compared_knows_its_sentences(ours: Predictor) -> None:
    rng = random.Random(2)
    documents = [document(rng, 60) for _ in range(50)]

    found = [[Entity(start, end, label) for label, start, end in entities_of(ours, d.text)] for d in documents]

    right = sum(len({*one} & {*document.entities}) for one, document in zip(found, documents, strict=True))
    assert right > 0.9 * sum(len(document.entities) for document in documents)


def test_in_word_mode_the_stock_pipeline_says_the_same_of_what_it_can_read(
    tagger: Tagger, vocabulary: Path, tmp_path: Path
) -> None:
    by_word = SubwordTokenizer.read(vocabulary, "bert", split_into_characters=False)
    reader = copy.deepcopy(tagger)
    reader.encoder.tokenizer = by_word
    folder = save(reader, tmp_path / "words-v1")
    texts = [text for text in awkward_texts(by_word, 80) if by_word.tokenize(text).ids]

    ours, stock = Predictor(checkpoint.load(folder).tagger, ""), Stock(folder, use_fast=True)
    _, entities = agree(ours, stock, texts)

    assert entities > 50
    # Where it reads nothing, or more than 512 ids, ours answers.
    with pytest.raises(RuntimeError, match="reshape"):
        stock.answer(" \u3000")
    assert entities_of(ours, " \u3000") == []
    long = "张三在北京。" * 200
    assert len(stock.answer(long).tags) == LONGEST
    assert entities_of(ours, long)[-1][2] > 1100
    # By default it takes the slow tokenizer, which loses its place at the first character it does not know.
    with pytest.raises(ValueError, match="substring not found"):
        Stock(folder).answer("😀张三")


@pytest.mark.parametrize("split", [True, False], ids=["characters", "words"])
def test_an_xlm_roberta_of_ours_says_the_same_in_the_stock_pipeline(tmp_path: Path, split: bool) -> None:
    import sentencepiece

    rng = random.Random(0)
    texts = [document(rng, 40).text.replace("\0", "") for _ in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(tmp_path / "sentencepiece.bpe"),
        vocab_size=1000,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    tokenizer = SubwordTokenizer.read(tmp_path, "xlm-roberta", split_into_characters=split)
    config = {
        "model_type": "xlm-roberta",
        "vocab_size": 1010,
        "max_position_embeddings": 514,
        "pad_token_id": 1,
        **SMALL,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = Tagger(TransformerEncoder(tokenizer, config), Decoder.flat(["LOC", "PER"]))
    folder = save(untrained, tmp_path / "xlm-roberta-v1")

    read = [text for text in awkward_texts(tokenizer, 40) if tokenizer.tokenize(text).ids]
    stock = Stock(folder, use_fast=not split)
    _, entities = agree(
        Predictor(checkpoint.load(folder).tagger, ""), stock, read, as_it_is if split else without_space_before
    )

    assert entities > 50


def test_what_modelscope_saves_again_we_read(ours: Predictor, stock: Stock, folder: Path, tmp_path: Path) -> None:
    stock.pipeline.model.save_pretrained(str(tmp_path / "saved"), "pytorch_model.bin")
    for name in ("vocab.txt", "config.json"):
        (tmp_path / "saved" / name).write_bytes((folder / name).read_bytes())
    keys = torch.load(tmp_path / "saved" / "pytorch_model.bin", weights_only=True)

    again = read_raner(tmp_path / "saved")

    assert any(key.startswith("head.crf.") for key in keys)
    assert again.encoder.tokenizer.split_into_characters
    assert weights_key(again) == weights_key(ours.tagger)


def test_the_empty_text_has_no_entities(ours: Predictor, stock: Stock) -> None:
    with pytest.raises(RuntimeError, match="reshape"):
        stock.answer("")

    assert entities_of(ours, "") == []


def test_a_text_of_more_than_510_characters_is_labelled_to_its_end(ours: Predictor, stock: Stock) -> None:
    text = "今天天气很好。" * 100 + "张三在北京的阿里巴巴工作。"

    with pytest.raises(RuntimeError, match="size of tensor"):
        stock.answer(text)

    assert entities_of(ours, text)[-3:] == [("PER", 700, 702), ("LOC", 703, 705), ("ORG", 706, 710)]


def test_the_name_of_a_token_in_a_text_is_text(ours: Predictor, stock: Stock) -> None:
    text = "张三在北京的协和医院工作。[SEP]李四，张三和张三去了上海市！"

    theirs, found = stock.answer(text).entities, entities_of(ours, text)

    assert max(end for _, _, end in theirs) <= text.index("[SEP]")  # nothing behind it is labelled
    assert [text[start:end] for _, start, end in found] == [
        "张三",
        "北京",
        "协和医院",
        "李四",
        "张三",
        "张三",
        "上海市",
    ]


def test_tags_that_no_scheme_allows_become_no_entities_of_ours(tagger: Tagger, tmp_path: Path) -> None:
    stubborn = copy.deepcopy(tagger)
    inside = stubborn.decoder.layers[0].id_of("I-LOC")
    with torch.no_grad():
        for weight in (*stubborn.linear.parameters(), *stubborn.crf.parameters()):
            weight.zero_()
        stubborn.linear.bias[inside] = 50.0
    theirs, written = save_as_others_do(stubborn, tmp_path / "learned"), save(stubborn, tmp_path / "stubborn-v1")

    answer = Stock(theirs).answer("张三在北京")

    assert answer.tags == [inside] * 5  # begins inside an entity and never ends it
    assert answer.entities == [("LOC", 0, 5)]
    (prediction,) = Predictor(read_raner(theirs), "").predict(["张三在北京"])
    assert [(e.start, e.end, e.label, e.score) for e in prediction.entities] == [(0, 5, "LOC", 1.0)]  # B I I I E
    assert Stock(theirs).answer("张").entities == [("LOC", 0, 1)]
    for folder in (theirs, written):
        (prediction,) = Predictor(checkpoint.load(folder).tagger, "").predict(["张"])
        assert all(entity.score < 0.5 for entity in prediction.entities)  # one character cannot be I: all else is even
    assert is_legal(stubborn.decoder.layers[0], Stock(written).answer("张三在北京").tags)


def test_what_ours_says_can_be_written_as_json(ours: Predictor, stock: Stock) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(stock.pipeline("张三在北京"))

    (prediction,) = ours.predict(["张三在北京"])
    assert json.loads(json.dumps([(e.start, e.end, e.label, e.score) for e in prediction.entities]))
