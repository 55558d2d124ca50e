import json
import random

import pytest
from click.testing import CliRunner

from nerloop import checkpoint
from nerloop.cli import cli
from nerloop.documents import Document, Entity, fingerprint, read_jsonl, write_jsonl
from nerloop.errors import BadInput
from nerloop.predictor import Predictor
from nerloop.tagging import Decoder

NESTED = Document("", "0abab1", (Entity(1, 5, "ORG"), Entity(1, 3, "PER")))


def toy(number, seed):
    """Texts of zeros and ones in which each `ab` is a person."""
    rng = random.Random(seed)
    documents = []
    for _ in range(number):
        before, after = ("".join(rng.choices("01", k=rng.randint(3, 9))) for _ in "xy")
        documents.append(Document("", f"{before}ab{after}", (Entity(len(before), len(before) + 2, "PER"),)))
    return documents


def jsonl(path, documents):
    write_jsonl(path, documents)
    return str(path)


@pytest.fixture(scope="module")
def base(tiny_tagger, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "base"
    checkpoint.save(tiny_tagger(hidden_size=16), checkpoint.Provenance("lac", ""), folder)
    return str(folder)


@pytest.fixture(scope="module")
def nested_base(tiny_tagger, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nested") / "base"
    tagger = tiny_tagger(hidden_size=16, decoder=Decoder.nested(["ORG", "PER"]))
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), folder)
    return str(folder)


@pytest.fixture
def finetune(base, tmp_path):
    def run(*arguments, train=None):
        train = train or jsonl(tmp_path / "train.jsonl", toy(40, seed=1))
        options = ["--train", train, "--base", base, "--output", str(tmp_path / "made"), "--epochs", "2", *arguments]
        return CliRunner().invoke(cli, ["finetune", *options])

    return run


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """One whole run, with a dev file: what it printed, and where it wrote."""
    folder = tmp_path_factory.mktemp("trained")
    train, dev = jsonl(folder / "train.jsonl", toy(64, seed=1)), jsonl(folder / "dev.jsonl", toy(60, seed=2))
    options = ["--train", train, "--dev", dev, "--base", base, "--output", str(folder / "made")]
    result = CliRunner().invoke(cli, ["finetune", *options], env={"NERLOOP_HOME": str(folder / "home")})
    assert result.exit_code == 0, result.output
    return result, folder


def test_a_fine_tuned_checkpoint_finds_what_it_was_shown(trained):
    _, folder = trained

    tagger = checkpoint.load(folder / "made").tagger

    assert Predictor(tagger, "").predict(["0101ab10"])[0].entities == (Entity(4, 6, "PER"),)


def test_a_checkpoint_says_what_it_was_made_from(trained):
    _, folder = trained
    seen = [document for name in ("train", "dev") for document in read_jsonl(folder / f"{name}.jsonl")]

    made = checkpoint.load(folder / "made").provenance

    assert made.base.endswith("base")
    assert made.dataset_fingerprint == fingerprint(seen)
    assert made.metrics["dev_f1"] == 1.0
    assert (made.metrics["train_documents"], made.metrics["dev_documents"]) == (64, 60)
    assert set(made.refused) == {"torch-bf16", "onnx-int8"}


def test_standard_output_holds_the_path_alone(trained):
    result, folder = trained

    assert result.stdout == f"{folder / 'made'}\n"


def test_each_epoch_and_the_figures_of_the_best_are_said(trained):
    result, _ = trained

    assert "Epoch 1 of" in result.stderr
    assert "precision 1.000, recall 1.000, F1 1.000 on 60 texts with 60 entities" in result.stderr
    assert "temperature" in result.stderr


def test_an_ended_run_leaves_nothing_beside_its_checkpoint(trained):
    _, folder = trained

    assert {path.name for path in folder.iterdir()} <= {"train.jsonl", "dev.jsonl", "made", "home"}


@pytest.mark.parametrize(("name", "line"), [("more.txt", "{}\n"), ("more.jsonl", '{{"text": "{}"}}\n')])
def test_unlabelled_texts_make_a_second_round_each_once_and_none_that_is_labelled(finetune, tmp_path, name, line):
    more = [document.text for document in toy(30, seed=7)]
    train = jsonl(tmp_path / "some.jsonl", [*toy(40, seed=1), Document("", more[0])])
    (tmp_path / name).write_text("".join(map(line.format, [*more, more[1], "  "])))

    result = finetune("--unlabelled", str(tmp_path / name), train=train)

    assert result.exit_code == 0, result.output
    assert "29 unlabelled texts, for a second round; 2 that are repeated, labelled or held out are left out" in (
        " ".join(result.stderr.split())
    )
    assert "Epoch 4 of 4: " in result.stderr
    assert checkpoint.load(tmp_path / "made").provenance.metrics["unlabelled_documents"] == 29


def test_a_file_of_unlabelled_texts_that_is_not_there_is_named(finetune, tmp_path):
    result = finetune("--unlabelled", str(tmp_path / "no.txt"))

    assert isinstance(result.exception, BadInput)
    assert "no.txt: cannot be read" in str(result.exception)
    assert not (tmp_path / "made").exists()


def test_without_dev_a_tenth_is_held_out_and_that_is_said(finetune, tmp_path):
    result = finetune()

    made = checkpoint.load(tmp_path / "made").provenance
    assert "No --dev" in result.stderr
    assert 0 < made.metrics["dev_documents"] < 15


def test_few_held_out_entities_are_warned_of(finetune):
    result = finetune()

    assert "with fewer than 30 the last epoch is kept" in result.stderr


def test_entities_that_overlap_are_counted_with_the_decoder_that_learns_them(finetune, tmp_path):
    result = finetune(train=jsonl(tmp_path / "nested.jsonl", [*toy(20, seed=1), NESTED]))

    assert "1 entities overlap others" in result.stderr
    assert "--decoder nested" in result.stderr


def test_a_nested_decoder_drops_none(finetune, tmp_path):
    result = finetune("--decoder", "nested", train=jsonl(tmp_path / "nested.jsonl", [*toy(20, seed=1), NESTED]))

    loaded = checkpoint.load(tmp_path / "made")
    assert "overlap" not in result.stderr
    assert loaded.tagger.decoder.kind == "nested"
    assert loaded.provenance.metrics["dropped_entities"] == 0


def test_a_nested_base_makes_a_nested_checkpoint(finetune, nested_base, tmp_path):
    train = jsonl(tmp_path / "nested.jsonl", [*toy(20, seed=1), NESTED])

    result = finetune("--base", nested_base, train=train)

    loaded = checkpoint.load(tmp_path / "made")
    assert loaded.tagger.decoder.kind == "nested"
    assert loaded.provenance.metrics["dropped_entities"] == 0
    assert "decoder is" not in result.stderr


@pytest.mark.parametrize("kind", ["flat", "nested"])
def test_a_decoder_of_another_kind_than_the_bases_is_said(finetune, base, nested_base, kind):
    other = nested_base if kind == "flat" else base
    before = "nested" if kind == "flat" else "flat"

    result = finetune("--base", other, "--decoder", kind)

    assert f"The base's decoder is {before}, the new checkpoint's will be {kind}." in result.stderr


def test_labels_of_the_base_that_will_no_longer_be_found_are_warned_of(finetune):
    said = finetune("--base", "lac").stderr

    assert "the base's LOC, ORG, TIME are not in --train: the new checkpoint will not find them" in said


def test_a_label_that_goes_by_another_name_than_the_bases_is_not_called_lost(finetune, tmp_path):
    names = ("张伟", "王芳", "李娜", "刘洋", "陈静", "杨帆", "赵敏", "黄磊", "周涛", "吴刚")
    texts = [Document("", f"{name}昨天在公司开会。", (Entity(0, 2, "人名"),)) for name in names]

    said = finetune("--base", "lac", train=jsonl(tmp_path / "names.jsonl", texts)).stderr

    assert "人名 (the base's PER)" in said
    assert "the base's LOC, ORG, TIME are not in --train" in said


def test_labels_that_only_the_held_out_texts_have_are_named(finetune, tmp_path):
    dev = jsonl(tmp_path / "dev.jsonl", [Document("", "ab", (Entity(0, 1, "GPE"),))])

    assert "GPE: only in the held-out texts" in finetune("--dev", dev).stderr


def test_texts_that_are_in_both_files_are_warned_of(finetune, tmp_path):
    dev = jsonl(tmp_path / "dev.jsonl", toy(40, seed=1)[:7])

    assert "7 texts of --train are in --dev too" in finetune("--dev", dev).stderr


def refusal(result):
    assert isinstance(result.exception, BadInput), result.output
    return str(result.exception)


def test_an_output_that_exists_is_refused_before_anything_is_read(finetune, tmp_path):
    (tmp_path / "made").mkdir()

    assert "exists already" in refusal(finetune("--train", "no-such-file.jsonl"))


def test_wrong_offsets_name_file_line_and_field(finetune, tmp_path):
    good, bad = toy(1, seed=1)[0], {"text": "张三", "entities": [{"category": "PER", "start": 0, "end": 5}]}
    jsonl(tmp_path / "bad.jsonl", [good])
    with (tmp_path / "bad.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(bad, ensure_ascii=False))

    said = refusal(finetune(train=str(tmp_path / "bad.jsonl")))

    assert "bad.jsonl, line 2" in said
    assert "'end'=5" in said


def test_texts_without_any_entity_are_refused(finetune, tmp_path):
    empty = jsonl(tmp_path / "empty.jsonl", [Document("", f"0{number}") for number in range(9)])

    assert "no labelled entity to learn from" in refusal(finetune(train=empty))


def test_an_empty_file_to_learn_from_is_called_so(finetune, tmp_path):
    (tmp_path / "empty.jsonl").touch()

    assert "empty.jsonl: the file is empty" in refusal(finetune(train=str(tmp_path / "empty.jsonl")))


def test_a_directory_to_learn_from_is_called_so(finetune, tmp_path):
    assert "is a directory; give a JSONL file" in refusal(finetune(train=str(tmp_path)))


def test_a_seed_that_no_generator_takes_is_refused_as_an_option(finetune):
    result = finetune("--seed", str(2**63))

    assert result.exit_code == 2
    assert "--seed" in result.stderr


def test_a_base_that_is_not_there_is_named(finetune):
    assert "'no-such-model'" in refusal(finetune("--base", "no-such-model"))


def test_a_loss_that_is_no_number_names_the_option(finetune):
    assert "--learning-rate" in refusal(finetune("--learning-rate", "1e30"))


def test_a_place_that_cannot_be_written_is_refused_before_training(finetune, tmp_path):
    (tmp_path / "file").touch()

    result = finetune("--output", str(tmp_path / "file" / "made"))

    assert "cannot write beside it" in refusal(result)
    assert "Epoch" not in result.stderr


def test_a_cache_that_cannot_be_written_does_not_cost_what_was_learned(
    finetune, tiny_transformer, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NERLOOP_HOME", str(tmp_path / "file" / "home"))
    checkpoint.save(tiny_transformer(), checkpoint.Provenance("x", ""), tmp_path / "transformer")
    train = jsonl(tmp_path / "many.jsonl", toy(600, seed=3))

    result = finetune("--base", str(tmp_path / "transformer"), "--epochs", "1", train=train)

    assert "set NERLOOP_HOME" in result.stderr
    assert "could not be written" in checkpoint.load(tmp_path / "made").provenance.refused["onnx-int8"]


def test_a_process_that_is_not_the_first_says_and_writes_nothing(finetune, monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")

    result = finetune("--train", "no-such-file.jsonl")

    assert (result.exit_code, result.output) == (1, "")
