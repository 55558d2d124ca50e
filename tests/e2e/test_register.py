"""A checkpoint that was trained elsewhere, on its way through the gate into serving: `nerloop register`."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nerloop import checkpoint
from nerloop.cli import cli
from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox
from nerloop.encoder import TransformerEncoder
from nerloop.errors import BadInput
from nerloop.starter import fresh_starter
from nerloop.tagger import Tagger, adapt
from nerloop.tagging import Decoder
from nerloop.tokenizer import SubwordTokenizer
from nerloop.trainer import Recipe, Trainer

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")


@pytest.fixture(scope="module")
def labelled(stack: Sandbox) -> Sandbox:
    """A model whose project holds 80 labelled texts, and whose threshold no test reaches."""
    loop = stack.loop
    project = create_project(loop.label_studio, "registered", GOLD[:80], labels_of(GOLD[:80]))
    stack.run("connect", "--project", str(project.id), "--model", "registered", "--train-threshold", "1000")
    assert len(list(annotate(loop.label_studio, project, GOLD, 80))) == 80
    return stack


def saved(tagger: Tagger, folder: Path) -> str:
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), folder)
    return str(folder)


def register(stack: Sandbox, *arguments: str, model: str = "registered") -> Result:
    return CliRunner().invoke(cli, ["register", *arguments, "--model", model], env=stack.environ)


def test_a_checkpoint_from_elsewhere_goes_through_the_gate_into_serving(labelled: Sandbox, tmp_path: Path) -> None:
    tagger = adapt(fresh_starter(), Decoder.flat(labels_of(GOLD)))
    Trainer(Recipe(epochs=4)).fit(tagger, GOLD, [])

    ended = labelled.run("register", saved(tagger, tmp_path / "made"), "--model", "registered", "--by", "Li Na")

    version = labelled.loop.registry.production("registered").version
    assert str(version) == ended.stdout.strip()
    assert version is not None and version.reason.endswith("registered by Li Na")
    assert version.metrics["gate_f1"] > version.metrics["gate_f1_before"]
    assert "not known here" in ended.stderr


def test_registering_consumes_no_label(labelled: Sandbox, tmp_path: Path) -> None:
    ended = register(labelled, saved(fresh_starter(), tmp_path / "made"))

    assert ended.stdout.startswith("registered-v"), ended.output
    assert labelled.loop.registry.runs.last_manifest("registered") == {}


def test_a_checkpoint_that_is_worse_is_registered_and_not_promoted(labelled: Sandbox, tmp_path: Path) -> None:
    before = labelled.loop.registry.production("registered").name
    untrained = adapt(fresh_starter(), Decoder.flat(["DRUG"]))

    ended = register(labelled, saved(untrained, tmp_path / "made"))

    assert labelled.loop.registry.production("registered").name == before
    assert f"{ended.stdout.strip()}: rejected" in ended.stderr


def test_a_checkpoint_that_is_worse_can_be_forced_by_somebody_who_says_why(labelled: Sandbox, tmp_path: Path) -> None:
    worse = saved(adapt(fresh_starter(), Decoder.flat(["DRUG"])), tmp_path / "made")

    ended = register(labelled, worse, "--by", "Li Na", "--force", "--why", "guideline of May")

    version = labelled.loop.registry.production("registered").version
    assert version is not None and str(version) == ended.stdout.strip()
    assert (version.forced_by, version.forced_why) == ("Li Na", "guideline of May")
    assert version.reason.endswith("promoted all the same: forced by Li Na, because: guideline of May")
    assert f"  against {version.parent}: micro-F1 " in ended.stderr


def test_what_may_serve_a_checkpoint_is_measured_on_the_projects_texts_whatever_it_brings(
    labelled: Sandbox, tmp_path: Path
) -> None:
    admitted = {"onnx-int8": {"entity_f1": 1.0, "score_difference": 0.0, "texts": 500.0}}  # says who made it
    made = checkpoint.Provenance("elsewhere", "", admitted=admitted)
    checkpoint.save(small_transformer(tmp_path), made, tmp_path / "made")

    ended = labelled.run("register", str(tmp_path / "made"), "--model", "registered")

    version = next(v for v in labelled.loop.registry.versions("registered") if str(v) == ended.stdout.strip())
    kept = checkpoint.load(labelled.loop.registry.download(version, tmp_path / "kept")).provenance
    assert kept is not None and kept.base == "elsewhere"
    assert kept.admitted == {}
    assert kept.refused["onnx-int8"].startswith("not measured: there were ")  # it takes 500


def small_transformer(folder: Path) -> Tagger:
    """A BERT of two layers with random weights."""
    characters = sorted({c for document in GOLD for c in document.text.lower() if not c.isspace()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
    tokenizer = SubwordTokenizer.read(folder, "bert", split_into_characters=True)
    config = {
        "model_type": "bert",
        "vocab_size": len(characters) + 5,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    return Tagger(TransformerEncoder(tokenizer, config), Decoder.flat(labels_of(GOLD)))


def test_a_checkpoint_without_a_label_of_the_model_is_refused(labelled: Sandbox, tmp_path: Path) -> None:
    stranger = adapt(fresh_starter(), Decoder.flat(["GENE"]))

    ended = register(labelled, saved(stranger, tmp_path / "made"))

    assert isinstance(ended.exception, BadInput)
    assert "none of its labels (GENE) is one of model registered" in str(ended.exception)


def test_a_model_that_no_project_feeds_takes_no_candidate(stack: Sandbox) -> None:
    ended = register(stack, "lac", model="nobody")

    assert isinstance(ended.exception, BadInput)
    assert "no project is connected to model 'nobody'" in str(ended.exception)


def test_a_project_can_be_bound_to_a_nested_decoder(labelled: Sandbox) -> None:
    (binding,) = [b for b in labelled.loop.state.bindings() if b.model == "registered"]

    labelled.run("connect", "--project", str(binding.project_id), "--decoder", "nested")

    changed = labelled.loop.state.binding(binding.project_id)
    assert changed is not None
    assert (changed.decoder, changed.model, changed.train_threshold) == ("nested", "registered", 1000)
