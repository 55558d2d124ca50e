import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from nerloop import checkpoint, raner, trainer
from nerloop.cli import cli
from nerloop.documents import Document, Entity, from_json, read_jsonl, write_jsonl
from nerloop.errors import BadInput, CheckpointCorrupt, SettingsError
from nerloop.predictor import Predictor
from nerloop.tagging import Decoder

TEXTS = ["0123456789", "abc", "", " 0f1e2d3c4b5a ", "张三0😀"]
GOLD = [
    Document("", "0123456789", (Entity(0, 2, "PER"), Entity(4, 6, "LOC"))),
    Document("", "ab12cd", (Entity(0, 2, "LOC"),)),
    Document("", "zzz", (Entity(0, 1, "GPE"),)),
]
REFUSED = {"onnx-int8": "not measured: there were 80 texts, 500 are needed"}
COMMANDS = ("finetune", "evaluate", "predict", "inspect", "convert", "register", "publish", "connect")


@pytest.fixture(scope="module")
def folder(tiny_tagger, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "medical"
    made = checkpoint.Provenance("lac", "f" * 64, {"dev_f1": 0.75}, revision="v2", refused=REFUSED)
    checkpoint.save(tiny_tagger(), made, folder)
    return folder


@pytest.fixture(scope="module")
def nerloop(folder):
    """Runs a command; what it caches stays for the other tests."""

    def run(*arguments, **options):
        return CliRunner().invoke(cli, [*map(str, arguments)], env={"MODEL_DIR": str(folder.parent)}, **options)

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    write_jsonl(path, GOLD)
    return path


def refusal(result, kind=BadInput):
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def expected(folder, texts=TEXTS):
    return Predictor(checkpoint.load(folder).tagger, "").predict(texts)


def test_the_help_of_finetune_says_how_many_epochs_it_takes_by_itself(nerloop):
    said = " ".join(nerloop("finetune", "--help").output.split())

    assert f"[default: {trainer.EPOCHS[0]} to {trainer.EPOCHS[1]}, by the data]" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_holds_an_example(nerloop, command):
    assert f"\n  nerloop {command} " in nerloop(command, "--help").output


def test_the_command_line_starts_without_what_takes_seconds():
    slow = ("torch", "transformers", "mlflow", "label_studio_sdk", "onnxruntime")
    script = f"import sys, nerloop.cli; print([name for name in {slow} if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_texts_of_a_file_are_labelled_a_line_each(nerloop, folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")

    result = nerloop("predict", "--model", folder, tmp_path / "texts.txt")

    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert [from_json(line).entities for line in result.stdout.splitlines()] == [p.entities for p in expected(folder)]


def test_each_prediction_carries_its_scores(nerloop, folder):
    result = nerloop("predict", "--model", folder, input="0123456789\n")

    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    (prediction,) = expected(folder, ["0123456789"])
    assert [entity["score"] for entity in row["entities"]] == pytest.approx(
        [entity.score for entity in prediction.entities], abs=1e-3
    )
    assert row["confidence"] == pytest.approx(prediction.confidence, abs=1e-4)
    assert row["uncertainty"] == pytest.approx(vars(prediction.uncertainty), abs=1e-4)


def test_a_command_on_files_leaves_nothing_where_it_is_run(folder, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("NERLOOP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    result = CliRunner().invoke(cli, ["predict", "--model", str(folder)], input="01\n")

    assert result.exit_code == 0, result.output
    assert list((tmp_path / "work").iterdir()) == []
    assert list((tmp_path / "cache" / "nerloop" / "runtimes").iterdir()) != []


def test_a_cache_that_cannot_be_written_names_the_setting(folder, tmp_path):
    (tmp_path / "file").touch()

    result = CliRunner().invoke(cli, ["inspect", str(folder)], env={"NERLOOP_HOME": str(tmp_path / "file" / "home")})

    assert "set NERLOOP_HOME to a folder that can be written" in refusal(result, SettingsError)


def test_lines_that_end_as_on_windows_are_read_without_their_ends(nerloop, folder):
    result = nerloop("predict", "--model", folder, input="\ufeff01\r\n23\r\n".encode())

    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["01", "23"]


def test_a_jsonl_file_is_known_by_its_name_and_keeps_its_ids(nerloop, folder, tmp_path):
    write_jsonl(tmp_path / "texts.jsonl", [Document("7", "0\u20281"), Document("", "23")])

    result = nerloop("predict", "--model", folder, tmp_path / "texts.jsonl")

    documents = [from_json(line) for line in result.stdout.split("\n") if line]
    assert [(document.id, document.text) for document in documents] == [("7", "0\u20281"), ("", "23")]


@pytest.mark.parametrize(("name", "options"), [("texts.JSONL", []), ("texts.json", ["--jsonl"])])
def test_a_jsonl_file_of_another_name_is_no_prose(nerloop, folder, tmp_path, name, options):
    write_jsonl(tmp_path / name, [Document("7", "01")])

    result = nerloop("predict", "--model", folder, *options, tmp_path / name)

    assert json.loads(result.stdout)["text"] == "01"


def test_jsonl_from_standard_input_is_read_where_that_is_said(nerloop, folder):
    line = json.dumps({"text": "0\ud83d1"}) + "\n\n"  # half an emoji, and an empty line

    result = nerloop("predict", "--model", folder, "--jsonl", input=line)

    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["0\ud83d1"]


def test_many_texts_come_out_in_their_order(nerloop, folder):
    texts = [str(number) for number in range(700)]

    result = nerloop("predict", "--model", folder, input="\n".join(texts))

    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == texts


def test_predictions_can_be_written_to_a_file_and_read_as_labelled_texts(nerloop, folder, tmp_path):
    result = nerloop("predict", "--model", folder, "-o", tmp_path / "out.jsonl", input="0123456789\n")

    assert result.stdout == ""
    assert "1 texts in" in result.stderr
    assert [document.text for document in read_jsonl(tmp_path / "out.jsonl")] == ["0123456789"]


def test_a_wrong_line_is_named_and_leaves_no_half_file(nerloop, folder, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "0"}\n{"txt": "1"}\n')

    result = nerloop("predict", "--model", folder, tmp_path / "texts.jsonl", "-o", tmp_path / "out.jsonl")

    assert "texts.jsonl, line 2: field 'text' is missing" in refusal(result)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_bytes_that_are_no_utf_8_are_named_with_their_line(nerloop, folder):
    result = nerloop("predict", "--model", folder, input=b"01\n" + "张三\n".encode("gb18030"))

    assert "standard input, line 2: not UTF-8" in refusal(result)


def test_a_file_that_is_not_there_is_named_before_the_model_is_read(nerloop):
    assert "no-such.txt" in refusal(nerloop("predict", "--model", "no-such-model", "no-such.txt"))


def test_a_directory_of_texts_is_called_so(nerloop, folder):
    assert "is a directory" in refusal(nerloop("predict", "--model", "no-such-model", folder))


def test_a_model_that_is_not_there_says_what_can_be_given(nerloop, data):
    said = refusal(nerloop("evaluate", "--model", "no-such-model", "--data", data))

    assert "'no-such-model': no such directory" in said
    assert "'lac'" in said


def test_an_evaluation_is_one_json_object_on_the_last_line(nerloop, folder, data):
    result = nerloop("evaluate", "--model", folder, "--data", data, "--json")

    row = json.loads(result.output.splitlines()[-1])
    assert {"precision", "recall", "f1", "macro_f1", "per_label", "ece", "perfect_ece"} <= row.keys()
    assert (row["documents"], row["entities"]) == (3, 4)
    assert sum(each["count"] for each in row["reliability"]) > 0


def test_what_a_model_predicts_scores_perfectly(nerloop, folder, tmp_path):
    nerloop("predict", "--model", folder, "-o", tmp_path / "own.jsonl", input="0123456789\nabc\n")

    row = json.loads(nerloop("evaluate", "--model", folder, "--data", tmp_path / "own.jsonl", "--json").stdout)

    assert (row["f1"], row["macro_f1"], row["boundary_f1"]) == (1.0, 1.0, 1.0)


def test_labels_that_a_model_does_not_know_count_as_missed_and_are_named(nerloop, folder, data):
    result = nerloop("evaluate", "--model", folder, "--data", data, "--json")

    assert "does not know GPE: 1 entities count as missed" in result.stderr
    assert json.loads(result.stdout)["per_label"]["GPE"]["recall"] == 0


def test_people_are_shown_tables(nerloop, folder, data):
    shown = nerloop("evaluate", "--model", folder, "--data", data).stdout

    for part in (
        "all labels (micro)",
        "boundaries only",
        "By label",
        "GPE",
        "Expected calibration error",
        "would show",
    ):
        assert part in shown


def test_recall_of_inner_entities_is_shown_where_there_are_some(nerloop, folder, tmp_path):
    write_jsonl(tmp_path / "nested.jsonl", [Document("", "0123", (Entity(0, 4, "LOC"), Entity(0, 2, "PER")))])

    assert "inside a longer one" in nerloop("evaluate", "--model", folder, "--data", tmp_path / "nested.jsonl").stdout


@pytest.mark.parametrize("kind", ["flat", "nested"])
def test_a_flat_model_is_said_to_find_nothing_inside_other_entities(nerloop, tiny_tagger, tmp_path, kind):
    decoder = Decoder.nested(["LOC", "PER"]) if kind == "nested" else Decoder.flat(["LOC", "PER"])
    checkpoint.save(tiny_tagger(decoder=decoder), checkpoint.Provenance("lac", ""), tmp_path / "model")
    write_jsonl(tmp_path / "nested.jsonl", [Document("", "0123", (Entity(0, 4, "LOC"), Entity(0, 2, "PER")))])

    said = nerloop("evaluate", "--model", tmp_path / "model", "--data", tmp_path / "nested.jsonl").stderr

    assert ("1 entities lie inside others" in said) == (kind == "flat")
    assert ("--decoder nested" in said) == (kind == "flat")


def test_a_model_against_itself_differs_by_nothing(nerloop, folder, data):
    result = nerloop("evaluate", "--model", folder, "--data", data, "--against", folder, "--json")

    against = json.loads(result.stdout)["against"]
    assert (against["difference"], against["interval"], against["probability_worse"]) == (0, [0, 0], 0)


def test_the_difference_is_that_of_the_model_to_the_other(nerloop, folder, tmp_path):
    nerloop("predict", "--model", folder, "-o", tmp_path / "own.jsonl", input="0123456789\nabc\n")

    result = nerloop("evaluate", "--model", folder, "--data", tmp_path / "own.jsonl", "--against", "lac")

    assert "F1 0.000 → 1.000, difference +1.000" in result.stdout


def test_data_without_documents_are_refused(nerloop, folder, tmp_path):
    (tmp_path / "empty.jsonl").touch()

    assert "no documents" in refusal(nerloop("evaluate", "--model", folder, "--data", tmp_path / "empty.jsonl"))


def test_an_inspection_says_how_a_checkpoint_came_to_be(nerloop, folder):
    facts = json.loads(nerloop("inspect", folder, "--json").stdout)

    assert facts["labels"] == ["LOC", "PER"]
    assert facts["sums_verified"]
    assert (facts["made_from"]["base"], facts["made_from"]["revision"]) == ("lac", "v2")
    assert facts["made_from"]["metrics"]["dev_f1"] == 0.75
    assert set(facts["runtime"]["milliseconds"]) == {"torch-fp32", "onnx-fp32"}
    assert facts["runtime"]["not_admitted"] == REFUSED | {"torch-bf16": "not measured when it was made"}


def test_an_inspection_is_shown_to_people_as_a_table(nerloop, folder):
    shown = nerloop("inspect", folder).stdout

    for part in (
        "LOC, PER",
        "gru",
        "sha256 of every file verified",
        "lac @ v2",
        "ms a text ←",
        "dev_f1 0.75",
        "there were 80 texts",
    ):
        assert part in shown


def test_the_starter_can_be_inspected(nerloop):
    facts = json.loads(nerloop("inspect", "lac", "--json").stdout)

    assert facts["labels"] == ["LOC", "ORG", "PER", "TIME"]
    assert not facts["sums_verified"]


def test_a_damaged_checkpoint_is_named_with_the_file(nerloop, folder, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in folder.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "vocabulary.json").write_text("{}")

    assert "vocabulary.json" in refusal(nerloop("inspect", damaged), CheckpointCorrupt)


@pytest.fixture
def raner_folder(tiny_transformer, tmp_path):
    tagger = tiny_transformer()
    (tmp_path / "raner").mkdir()
    for name, content in raner.raner_files(tagger).items():
        (tmp_path / "raner" / name).write_bytes(content)
    weights = raner.published_keys(tagger)
    as_saved = {f"head.{name}" if name.startswith(("linear", "crf")) else name: w for name, w in weights.items()}
    torch.save(as_saved, tmp_path / "raner" / "pytorch_model.bin")
    return tmp_path / "raner"


def test_a_raner_directory_becomes_a_checkpoint_with_the_same_predictions(nerloop, raner_folder, tmp_path):
    result = nerloop("convert", raner_folder, tmp_path / "converted")

    found = checkpoint.load(tmp_path / "converted")
    assert result.stdout == f"{tmp_path / 'converted'}\n"
    assert found.provenance is not None and found.provenance.base == str(raner_folder)
    assert expected(tmp_path / "converted") == expected(raner_folder)


def test_a_converted_checkpoint_of_ours_keeps_its_history(nerloop, folder, tmp_path):
    nerloop("convert", folder, tmp_path / "again")

    assert checkpoint.load(tmp_path / "again").provenance == checkpoint.load(folder).provenance


def test_the_starter_can_be_published_once_it_is_converted(nerloop):
    said = refusal(nerloop("publish", "lac", "--to", "clinic/lac"))

    assert "the starter has no directory; run `nerloop convert lac DIR` first" in said


def test_nothing_is_converted_over_what_is_there(nerloop, folder, tmp_path):
    assert "exists already" in refusal(nerloop("convert", folder, tmp_path))
