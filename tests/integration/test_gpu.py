"""What a GPU must not change: entities, resuming, checkpoints. These tests run where there is one."""

import random
from pathlib import Path

import pytest
import torch

from nerloop import checkpoint
from nerloop.admission import MIN_TEXTS, admission
from nerloop.demo import DEMO_FOLDER
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.encoder import TransformerEncoder
from nerloop.evaluation import evaluate
from nerloop.predictor import Predictor, found_in, score
from nerloop.runtime import TorchRuntime, fastest
from nerloop.starter import fresh_starter
from nerloop.tagger import Tagger, adapt
from nerloop.tagging import Decoder
from nerloop.tokenizer import SubwordTokenizer
from nerloop.trainer import Progress, Recipe, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")
LABELS = labels_of(GOLD)
AWKWARD = ["", " ", "\u0000", "😀北京😀", "Ｗｕ　Ｔｉｎｇ", "𠮷野家", "a" * 700, "北京市朝阳区" * 200, "\n张三\t"]


def small_transformer(folder: Path) -> Tagger:
    """A BERT of two layers, which trains within seconds."""
    characters = sorted({c for document in GOLD for c in document.text.lower() if not c.isspace()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
    tokenizer = SubwordTokenizer.read(folder, "bert", split_into_characters=True)
    torch.manual_seed(0)
    config = {
        "model_type": "bert",
        "vocab_size": len(characters) + 5,
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "initializer_range": 0.02,
    }
    return Tagger(TransformerEncoder(tokenizer, config), Decoder.flat(LABELS))


def of_lac(_: Path) -> Tagger:
    return adapt(fresh_starter(), Decoder.flat(LABELS))


@pytest.mark.parametrize("start", [small_transformer, of_lac])
def test_what_was_trained_on_a_gpu_finds_the_same_from_a_checkpoint_on_the_cpu(start, tmp_path: Path) -> None:
    tagger = start(tmp_path)
    Trainer(Recipe(epochs=8, learning_rate=1e-3)).fit(tagger, GOLD[:200], GOLD[200:260])
    assert next(tagger.parameters()).is_cuda
    texts = [*AWKWARD, *(document.text for document in GOLD)]
    documents = [Document("", text) for text in texts]
    on_gpu = Predictor(tagger, "")
    expected = found_in(documents, on_gpu)
    assert score(on_gpu, GOLD[:200]).micro.f1 > 0.5

    checkpoint.save(tagger, checkpoint.Provenance("a test", ""), tmp_path / "made")

    found = found_in(documents, Predictor(checkpoint.load(tmp_path / "made").tagger, ""))
    assert evaluate(expected, found).micro.f1 > 0.998
    apart = [
        abs((one.score or 0) - (other.score or 0))
        for document, same in zip(expected, found, strict=True)
        for one, other in zip(document.entities, same.entities, strict=False)
        if one == other
    ]
    assert sum(apart) / len(apart) < 0.01


def test_a_run_that_was_stopped_on_a_gpu_goes_on_from_where_it_saved(tmp_path: Path) -> None:
    """Not to the same bits as on a CPU: a GPU adds gradients in any order, and two whole runs differ too."""
    recipe = Recipe(epochs=4, learning_rate=1e-3)
    whole, stopped = small_transformer(tmp_path), small_transformer(tmp_path)
    expected = Trainer(recipe).fit(whole, GOLD[:100], [])

    def stop(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(recipe, stop, tmp_path / "state").fit(stopped, GOLD[:100], [])
    again = small_transformer(tmp_path)
    heard: list[Progress] = []
    fit = Trainer(recipe, heard.append, tmp_path / "state").fit(again, GOLD[:100], [])

    assert heard[0].epoch == 3
    losses, expected_losses = ([epoch.loss for epoch in run.epochs] for run in (fit, expected))
    assert losses == pytest.approx(expected_losses, rel=0.05)


def test_a_gpu_serves_in_bf16_only_what_was_admitted(tmp_path: Path) -> None:
    tagger = small_transformer(tmp_path)
    Trainer(Recipe(epochs=12, learning_rate=1e-3)).fit(tagger, GOLD[:200], [])
    draw = random.Random(0)
    texts = ["".join(draw.choice(GOLD).text for _ in range(2)) for _ in range(MIN_TEXTS)]

    found = admission(tagger, texts, tmp_path)

    assert "not measured" not in found.refused.get("onnx-int8", "")  # CPU replicas may serve what a GPU has trained
    assert fastest(tagger, [], tmp_path)[0].name == "torch-fp32-cuda"
    assert fastest(tagger, ["torch-bf16"], tmp_path)[0].name == "torch-bf16-cuda"
    documents = [Document("", text) for text in texts[:100]]
    in_bf16 = Predictor(tagger, "", runtime=TorchRuntime(tagger, torch.bfloat16))
    assert evaluate(found_in(documents, Predictor(tagger, "")), found_in(documents, in_bf16)).micro.f1 > 0.95
