import json
import os
import pickle
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nerloop import checkpoint
from nerloop.crf import FORBIDDEN
from nerloop.encoder import pad
from nerloop.errors import BadInput
from nerloop.predictor import Predictor
from nerloop.raner import published_keys, raner_files, read_raner, read_weights
from nerloop.tagger import weights_key
from nerloop.tagging import Decoder

TAGS = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-疾病", "I-疾病", "E-疾病", "S-疾病")
LABEL2ID = {tag: row for row, tag in enumerate(TAGS)}
OTHER = {tag.replace("PER", "LOC"): row for tag, row in LABEL2ID.items()}
PADDING = {"bert": 0, "xlm-roberta": 1}
TEXT = "张三在北京市helo，a12 　😀é"


def hugging_face_model(kind, folder):
    """The encoder as transformers itself has it: what reading a directory must agree with."""
    from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

    config, model = {"bert": (BertConfig, BertModel), "xlm-roberta": (XLMRobertaConfig, XLMRobertaModel)}[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = model(
            config(
                vocab_size=100,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=64,
                pad_token_id=PADDING[kind],
            )
        )
    return made.eval(), folder


@pytest.fixture(scope="module")
def bert(bert_folder):
    return hugging_face_model("bert", bert_folder)


@pytest.fixture(scope="module")
def xlm_roberta(xlm_roberta_folder):
    return hugging_face_model("xlm-roberta", xlm_roberta_folder)


def head(tags=9):
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "linear.weight": (tags, 16),
        "linear.bias": (tags,),
        "crf.start_transitions": (tags,),
        "crf.end_transitions": (tags,),
        "crf.transitions": (tags, tags),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def weights_of(model, encoder="encoder.", rest=""):
    named = {encoder + key: tensor for key, tensor in model.state_dict().items()}
    named |= {rest + key: tensor for key, tensor in head().items()}
    return named | {encoder + "embeddings.position_ids": torch.arange(64)[None]}  # as older releases store it


def write_raner(folder, encoder, weights=None, *, config=None, configuration=None, files=None, split=True):
    """Write a RaNER directory; a value None in `config` takes a key out."""
    model, tokenizer = encoder
    folder.mkdir()
    for path in tokenizer.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    parts = {
        "config.json": {
            key: value
            for key, value in (
                model.config.to_dict() | {"id2label": None, "label2id": LABEL2ID} | (config or {})
            ).items()
            if value is not None
        },
        "configuration.json": {
            "framework": "pytorch",
            "task": "named-entity-recognition",
            "model": {"type": "transformer-crf"},
            "preprocessor": {"type": "sequence-labeling-tokenizer", "is_split_into_words": split},
        }
        | (configuration or {}),
        **(files or {}),
    }
    for name, part in parts.items():
        (folder / name).write_text(json.dumps(part, ensure_ascii=False), encoding="utf-8")
    torch.save(weights_of(model) if weights is None else weights, folder / "pytorch_model.bin")
    return folder


def assert_scores_are_those_of(model, tagger, text):
    """Compare with what transformers' encoder and the linear layer say of each unit, one text, no padding."""
    tokens = tagger.encoder.tokenizer.tokenize(text)
    tokenizer = tagger.encoder.tokenizer
    with torch.inference_mode():
        found = tagger.emissions(tagger.encoder.collate([tokens]))[0, 0]
        framed = torch.tensor([[tokenizer.begin, *tokens.ids, tokenizer.end]])
        hidden = model(input_ids=framed).last_hidden_state[0, [place + 1 for place in tokens.heads]]
    assert torch.allclose(found, hidden @ head()["linear.weight"].T + head()["linear.bias"], atol=1e-5)


LAYOUTS = [("encoder.", ""), ("encoder.", "head."), ("embedder.transformer_model.", "")]


@pytest.mark.parametrize(("encoder", "rest"), LAYOUTS, ids=["published", "saved by ModelScope", "AdaSeq"])
def test_a_raner_directory_is_read_with_its_own_scores(tmp_path, bert, encoder, rest):
    tagger = read_raner(write_raner(tmp_path / "raner", bert, weights_of(bert[0], encoder, rest)))

    assert_scores_are_those_of(bert[0], tagger, TEXT)
    assert torch.equal(tagger.crf.transitions[0], head()["crf.transitions"])
    assert torch.equal(tagger.crf.start_transitions[0], head()["crf.start_transitions"])
    assert torch.equal(tagger.crf.end_transitions[0], head()["crf.end_transitions"])
    assert not tagger.training


def test_the_oldest_names_of_layer_norms_are_known(tmp_path, bert):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = weights_of(bert[0])
    for new, name in old.items():
        weights = {key.replace(new, name): tensor for key, tensor in weights.items()}

    assert_scores_are_those_of(bert[0], read_raner(write_raner(tmp_path / "raner", bert, weights)), TEXT)


def test_weights_are_read_from_safetensors_where_only_those_are_there(tmp_path, bert):
    folder = write_raner(tmp_path / "raner", bert)
    save_file(weights_of(bert[0]), folder / "model.safetensors")
    whole = weights_key(read_raner(folder))
    (folder / "pytorch_model.bin").unlink()

    assert weights_key(read_raner(folder)) == whole

    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"model\.safetensors: cannot be read"):
        read_raner(folder)


@pytest.mark.parametrize("name", ["structbert", "sbert", "bert"])
def test_structbert_is_read_as_the_bert_it_is(tmp_path, bert, name):
    tagger = read_raner(write_raner(tmp_path / "raner", bert, config={"model_type": name}))

    assert_scores_are_those_of(bert[0], tagger, TEXT)


@pytest.mark.parametrize("split", [True, False], ids=["characters", "words"])
def test_an_xlm_roberta_directory_is_read_with_its_own_scores(tmp_path, xlm_roberta, split):
    tagger = read_raner(write_raner(tmp_path / "raner", xlm_roberta, split=split))

    assert tagger.encoder.max_tokens == 64 - 2 - 2
    for text in ("张三 在 北京市 工作", "hello world 12 李四去了上海", "张"):
        assert_scores_are_those_of(xlm_roberta[0], tagger, text)


def test_padding_changes_no_score_of_an_xlm_roberta(tmp_path, xlm_roberta):
    tagger = read_raner(write_raner(tmp_path / "raner", xlm_roberta))
    tokens = [tagger.encoder.tokenizer.tokenize(text) for text in ("张三", "hello world 12 李四", "上")]

    with torch.inference_mode():
        together = tagger.emissions(tagger.encoder.collate(tokens))[0]
        alone = [tagger.emissions(tagger.encoder.collate([text]))[0, 0] for text in tokens]

    for row, scores in enumerate(alone):
        assert torch.allclose(together[row, : len(scores)], scores, atol=1e-5)


def test_what_was_read_has_the_published_keys_again_bit_by_bit(tmp_path, bert, xlm_roberta):
    for number, encoder in enumerate((bert, xlm_roberta)):
        folder = write_raner(tmp_path / f"raner{number}", encoder)
        published = {key: tensor for key, tensor in weights_of(encoder[0]).items() if not key.endswith("position_ids")}

        again = published_keys(read_raner(folder))

        assert {key: tensor.shape for key, tensor in again.items()} == {k: t.shape for k, t in published.items()}
        crf = {key for key in published if key.startswith("crf.")}
        assert all(torch.equal(again[key], tensor) for key, tensor in published.items() if key not in crf)
        for key in crf:
            legal = again[key] > FORBIDDEN
            assert legal.any() and not legal.all()
            assert torch.equal(again[key][legal], published[key][legal])


def test_what_the_tag_scheme_forbids_is_forbidden_in_what_is_written(tiny_transformer):
    # ModelScope's CRF masks nothing, and training leaves these places as they are.
    tagger = tiny_transformer(Decoder.flat(["LOC", "PER"]))
    (tag_set,) = tagger.decoder.layers
    rows = range(len(tag_set.tags))

    written = published_keys(tagger)

    assert written["crf.start_transitions"].tolist() == [0 if tag_set.may_start(row) else FORBIDDEN for row in rows]
    assert written["crf.end_transitions"].tolist() == [0 if tag_set.may_end(row) else FORBIDDEN for row in rows]
    follows = [[0 if tag_set.may_follow(one, other) else FORBIDDEN for other in rows] for one in rows]
    assert written["crf.transitions"].tolist() == follows


PLACES = {
    "label_mapping.json": {"files": {"label_mapping.json": LABEL2ID}},
    "model.label2id": {"configuration": {"model": {"label2id": LABEL2ID}}},
    "model.id2label": {"configuration": {"model": {"id2label": {row: tag for tag, row in LABEL2ID.items()}}}},
    "preprocessor.label2id": {"configuration": {"preprocessor": {"label2id": LABEL2ID}}},
    "preprocessor.id2label": {"configuration": {"preprocessor": {"id2label": dict(enumerate(TAGS))}}},
    "config.json label2id": {"config": {"label2id": LABEL2ID}},
    "config.json id2label": {"config": {"id2label": dict(enumerate(TAGS))}},
    "numbers as strings": {"config": {"label2id": {tag: str(row) for tag, row in LABEL2ID.items()}}},
}


@pytest.mark.parametrize("place", PLACES)
def test_labels_are_read_wherever_modelscope_reads_them(tmp_path, bert, place):
    parts = {"config": {"label2id": None}} | PLACES[place]

    tagger = read_raner(write_raner(tmp_path / "raner", bert, **parts))

    assert tagger.decoder.layers[0].tags == TAGS
    assert tagger.decoder.labels == ("PER", "疾病")


def test_of_several_places_the_one_modelscope_looks_at_first_counts(tmp_path, bert):
    every = {
        "files": {"label_mapping.json": LABEL2ID},
        "configuration": {"model": {"label2id": OTHER}, "preprocessor": {"label2id": OTHER}},
        "config": {"label2id": OTHER},
    }

    first = read_raner(write_raner(tmp_path / "first", bert, **every))
    every["configuration"] = {"model": {"label2id": LABEL2ID}, "preprocessor": {"label2id": OTHER}}
    second = read_raner(write_raner(tmp_path / "second", bert, **(every | {"files": {}})))

    assert (first.decoder.labels, second.decoder.labels) == (("PER", "疾病"), ("PER", "疾病"))


def test_the_tags_are_in_the_order_of_their_numbers_not_of_the_file(tmp_path, bert):
    shuffled = dict(random.Random(0).sample(sorted(LABEL2ID.items()), len(TAGS)))

    tagger = read_raner(write_raner(tmp_path / "raner", bert, config={"label2id": shuffled}))

    assert tagger.decoder.layers[0].tags == TAGS


@pytest.mark.parametrize(
    "label2id",
    [{"O": 0, "B-PER": 2}, {"O": 1, "B-PER": 2}, {"O": 0, "B-PER": 0}, {"O": "zero"}, {"O": None}, {"O": 0.5}],
)
def test_tags_that_are_not_numbered_from_0_are_refused(tmp_path, bert, label2id):
    with pytest.raises(BadInput, match=r"raner: label2id does not number its \d tags 0 to"):
        read_raner(write_raner(tmp_path / "raner", bert, config={"label2id": label2id}))


@pytest.mark.parametrize("letters", ["BMES", "BILU"])
def test_another_name_of_the_same_scheme_finds_the_same_entities(tmp_path, bert, letters):
    named = {tag[0].translate(str.maketrans("BIES", letters)) + tag[1:]: row for tag, row in LABEL2ID.items()}
    folder = write_raner(tmp_path / "raner", bert, config={"label2id": named})
    other, bioes = read_raner(folder), read_raner(write_raner(tmp_path / "bioes", bert))

    assert Predictor(other, "").predict([TEXT, "张三" * 40]) == Predictor(bioes, "").predict([TEXT, "张三" * 40])
    assert other.decoder == bioes.decoder


def test_a_checkpoint_of_another_scheme_is_written_with_one_set_of_names(tmp_path, bert):
    named = {tag.replace("I-", "M-"): row for tag, row in LABEL2ID.items()}
    found = read_raner(write_raner(tmp_path / "raner", bert, config={"label2id": named}))

    files = raner_files(found)

    assert json.loads(files["label_mapping.json"]) == json.loads(files["config.json"])["label2id"] == LABEL2ID


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        (["O", "B_PER", "I_PER"], "'B_PER'"),
        (["O", "PER-B", "PER-I"], "'PER-B'"),
        (["O", "PER"], "'PER'"),
        (["O", "B-", "I-"], "'B-'"),
        (["O", "I-PER", "I-LOC"], "'I-PER'"),
        (["O", "B-PER", "M-PER", "I-PER"], "'M-PER' and 'I-PER'"),
        (["B-PER", "I-PER"], "no tag 'O'"),
    ],
)
def test_tags_of_no_known_scheme_are_refused_by_name(tmp_path, bert, tags, named):
    label2id = {tag: row for row, tag in enumerate(tags)}

    with pytest.raises(BadInput, match=rf"raner: .*{named}.*BIOES, BILOU, BMES and BIO"):
        read_raner(write_raner(tmp_path / "raner", bert, config={"label2id": label2id}))


@pytest.mark.parametrize("tag", ["<PAD>", "[CLS]", "X"])
def test_a_tag_of_padding_or_context_marks_nothing(tmp_path, bert, tag):
    label2id = {tag if name == "S-PER" else name: row for name, row in LABEL2ID.items()}

    found = read_raner(write_raner(tmp_path / "raner", bert, config={"label2id": label2id}))

    assert "PER" in found.decoder.labels
    assert {entity.label for entity in Predictor(found, "").predict([TEXT])[0].entities} <= set(found.decoder.labels)


@pytest.mark.parametrize("label", ["PER ", "P\x00ER", "PER\ud83d"])
def test_a_label_that_no_file_could_hold_is_refused_by_name(tmp_path, bert, label):
    folder = write_raner(tmp_path / "raner", bert)
    (folder / "label_mapping.json").write_text(json.dumps({"O": 0, f"B-{label}": 1}), encoding="utf-8")

    with pytest.raises(BadInput, match=re.escape(f"raner: label2id: the label {label!r}")):
        read_raner(folder)


@pytest.mark.parametrize("label2id", [None, {}, [], "x"])
def test_a_directory_without_tags_is_refused_with_the_places_looked_at(tmp_path, bert, label2id):
    with pytest.raises(BadInput, match=r"no label2id in label_mapping\.json, configuration\.json or config\.json"):
        read_raner(write_raner(tmp_path / "raner", bert, config={"label2id": label2id}))


@pytest.mark.parametrize(
    ("preprocessor", "units"),
    [
        ({"is_split_into_words": True}, ["h", "e", "l", "l", "o", " ", "张", "三"]),
        ({"is_split_into_words": False}, ["hello", "张", "三"]),
        ({}, ["hello", "张", "三"]),
        (None, ["hello", "张", "三"]),
    ],
)
def test_characters_or_words_are_units_as_the_directory_says(tmp_path, bert, preprocessor, units):
    tagger = read_raner(write_raner(tmp_path / "raner", bert, configuration={"preprocessor": preprocessor}))

    text = "hello 张三"
    assert [text[start:end] for start, end in tagger.encoder.tokenizer.tokenize(text).spans] == units


def test_a_directory_without_configuration_json_reads_words_as_modelscope_does(tmp_path, bert):
    folder = write_raner(tmp_path / "raner", bert)
    (folder / "configuration.json").unlink()

    tagger = read_raner(folder)

    assert not tagger.encoder.tokenizer.split_into_characters
    assert_scores_are_those_of(bert[0], tagger, "hello 张三在北京")


def test_unknown_characters_and_capitals_have_rows_in_a_bert_vocabulary(tmp_path, bert):
    tokenizer = read_raner(write_raner(tmp_path / "raner", bert)).encoder.tokenizer

    small, unknown = tokenizer.tokenize("a").ids[0], 1
    assert list(tokenizer.tokenize("aA").ids) == [small, small]
    assert list(tokenizer.tokenize("龘😀 \r\n\ud83d").ids) == [unknown] * 6


def test_a_raner_model_labels_texts_that_are_longer_than_its_positions(tmp_path, bert):
    tagger = read_raner(write_raner(tmp_path / "raner", bert))

    short, long = Predictor(tagger, "").predict(["0123", "0123456789张三" * 20])

    assert long.entities[-1].end > 150
    assert short == Predictor(tagger, "").predict(["0123"])[0]


def test_weights_in_half_precision_serve_in_single(tmp_path, bert):
    weights = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights_of(bert[0]).items()
    }

    tagger = read_raner(write_raner(tmp_path / "raner", bert, weights, config={"torch_dtype": "float16"}))

    assert {parameter.dtype for parameter in tagger.parameters()} == {torch.float32}
    (prediction,) = Predictor(tagger, "").predict([TEXT])
    assert 0 < prediction.confidence <= 1


def test_a_directory_without_a_pooler_which_nothing_reads_is_the_same_each_time(tmp_path, bert):
    weights = {key: tensor for key, tensor in weights_of(bert[0]).items() if ".pooler." not in key}
    folder = write_raner(tmp_path / "raner", bert, weights)

    assert weights_key(read_raner(folder)) == weights_key(read_raner(folder))


class Trap:
    """An object whose pickle makes a folder when it is read, as a malicious checkpoint might do worse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the old format"])
def test_weights_that_would_run_code_are_refused_and_run_nothing(tmp_path, bert, zipped):
    folder = write_raner(tmp_path / "raner", bert)
    weights = {"encoder.x": torch.zeros(1), "trap": Trap(tmp_path / "sprung")}
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)

    with pytest.raises(BadInput, match=r"pytorch_model\.bin: cannot be read"):
        read_raner(folder)

    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n", "pointer of Git LFS.*git lfs pull"),
        (b"", "is empty; fetch the directory again"),
        (b"<html>not found</html>", "damaged"),
        (pickle.dumps(Path("x"), protocol=2), "holds more than tensors"),
        (b"PK\x03\x04", "damaged"),
    ],
    ids=["a pointer of Git LFS", "nothing", "a web page", "a pickle", "the start of a file"],
)
def test_a_file_that_holds_no_weights_is_refused_in_one_line_with_the_fix(tmp_path, bert, content, named):
    folder = write_raner(tmp_path / "raner", bert)
    (folder / "pytorch_model.bin").write_bytes(content)

    with pytest.raises(BadInput, match=rf"pytorch_model\.bin: .*{named}") as raised:
        read_raner(folder)

    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)


def test_code_beside_a_model_is_not_run(tmp_path, bert):
    code = {"auto_map": dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "modeling.Model")}
    folder = write_raner(
        tmp_path / "raner",
        bert,
        config=code,
        configuration={"plugins": ["adaseq"], "allow_remote": True},
        files={"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["modeling.Model", "modeling.Model"]}}},
    )
    for name in ("modeling.py", "ms_wrapper.py"):
        (folder / name).write_text(f"import os\nos.mkdir({str(tmp_path / 'sprung')!r})\n", encoding="utf-8")

    assert_scores_are_those_of(bert[0], checkpoint.load(folder).tagger, "hello")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "pytorch_model.bin"])
def test_a_directory_without_a_file_is_refused_by_its_name(tmp_path, bert, name):
    folder = write_raner(tmp_path / "raner", bert)
    (folder / name).unlink()

    with pytest.raises(BadInput, match=rf"raner.* {name}.* is missing"):
        read_raner(folder)


def test_an_xlm_roberta_directory_without_its_vocabulary_is_refused_by_its_name(tmp_path, xlm_roberta):
    folder = write_raner(tmp_path / "raner", xlm_roberta)
    (folder / "sentencepiece.bpe.model").unlink()

    with pytest.raises(BadInput, match=r"raner.*sentencepiece\.bpe\.model is missing"):
        read_raner(folder)


def test_weights_without_a_crf_are_refused_by_the_names_of_the_keys(tmp_path, bert):
    weights = {key: tensor for key, tensor in weights_of(bert[0]).items() if not key.startswith("crf.")}

    with pytest.raises(BadInput, match=r"keys missing .*crf\.start_transitions"):
        read_raner(write_raner(tmp_path / "raner", bert, weights))


def test_weights_without_an_encoder_are_refused_by_the_names_of_the_keys(tmp_path, bert):
    with pytest.raises(BadInput, match=r"keys missing .*embeddings\.word_embeddings\.weight"):
        read_raner(write_raner(tmp_path / "raner", bert, head()))


def test_weights_with_keys_of_another_model_are_refused_by_name(tmp_path, bert):
    weights = weights_of(bert[0]) | {"decoder.x": torch.zeros(1)}

    with pytest.raises(BadInput, match=r"unexpected .*decoder\.x"):
        read_raner(write_raner(tmp_path / "raner", bert, weights))


@pytest.mark.parametrize("weights", [[torch.zeros(1)], {"linear.bias": 5}, {"state_dict": {}}, torch.zeros(2)])
def test_weights_that_are_no_named_tensors_are_refused(tmp_path, bert, weights):
    with pytest.raises(BadInput, match=r"pytorch_model\.bin: holds something other than named tensors"):
        read_raner(write_raner(tmp_path / "raner", bert, weights))


def test_another_architecture_is_refused_with_those_that_are_read(tmp_path, bert):
    with pytest.raises(BadInput, match="model_type 'lstm' is not read; known are bert, structbert"):
        read_raner(write_raner(tmp_path / "raner", bert, config={"model_type": "lstm"}))


@pytest.mark.parametrize(
    "config",
    [{"hidden_size": None}, {"hidden_size": "x"}, {"hidden_size": 17}, {"num_hidden_layers": 3}, {"vocab_size": 7}],
)
def test_a_config_that_does_not_fit_the_weights_is_bad_input(tmp_path, bert, config):
    with pytest.raises(BadInput, match="raner"):
        read_raner(write_raner(tmp_path / "raner", bert, config=config))


def test_a_vocabulary_longer_than_the_embedding_is_bad_input(tmp_path, bert):
    folder = write_raner(tmp_path / "raner", bert)
    with (folder / "vocab.txt").open("a", encoding="utf-8") as vocabulary:
        vocabulary.writelines(f"\nlong{number}" for number in range(100))

    with pytest.raises(BadInput, match=r"raner: the tokenizer has 1\d\d entries, config\.json's vocab_size 100"):
        read_raner(folder)


def test_weights_of_other_labels_are_bad_input(tmp_path, bert):
    with pytest.raises(BadInput, match="do not fit together"):
        read_raner(write_raner(tmp_path / "raner", bert, weights_of(bert[0]) | head(tags=5)))


@pytest.mark.parametrize("name", ["config.json", "configuration.json", "label_mapping.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": "\xff"}', b""])
def test_json_that_cannot_be_read_is_named(tmp_path, bert, name, content):
    folder = write_raner(tmp_path / "raner", bert)
    (folder / name).write_bytes(content)

    with pytest.raises(BadInput, match=rf"raner/{name}: (cannot be read|is not a JSON object)"):
        read_raner(folder)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the old format"])
def test_damaged_weights_are_named_wherever_the_damage_is(tmp_path, zipped):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(3, 4), "b": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    whole, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.randrange(len(damaged))] if chance.random() < 0.2 else damaged)
        try:
            read_weights(path)
        except BadInput as error:
            assert "pytorch_model.bin" in str(error)
            refused += 1

    assert refused > 100


def test_padding_rows_are_made_of_the_tokenizers_own_id(tmp_path, xlm_roberta):
    tokenizer = read_raner(write_raner(tmp_path / "raner", xlm_roberta)).encoder.tokenizer

    ids, _ = pad([[5], [5, 6, 7]], tokenizer.padding)

    assert ids.tolist() == [[5, PADDING["xlm-roberta"], PADDING["xlm-roberta"]], [5, 6, 7]]
