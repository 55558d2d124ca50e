import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerloop import checkpoint
from nerloop.checkpoint import DESCRIPTION, Provenance
from nerloop.documents import Document, Entity
from nerloop.encoder import TransformerEncoder
from nerloop.errors import BadInput, CheckpointCorrupt, RegistryError
from nerloop.predictor import Predictor
from nerloop.raner import WEIGHTS, read_raner
from nerloop.tagger import Tagger, weights_key
from nerloop.tagging import Decoder
from nerloop.tokenizer import TOKENIZER_FILES, VOCABULARY, SubwordTokenizer

TEXTS = ["0123456789", "hello 张三", "", "0f1e2d3c4b5a", "张三0😀", "张三在北京市" * 20]
NESTED = Decoder.nested(["LOC", "PER"], [Document("", "北京市", (Entity(0, 2, "LOC"), Entity(0, 3, "LOC")))])
ONE_LAYER = Decoder.nested(["PER"])
FLAT = Decoder.flat(["LOC", "疾病"])
MADE = Provenance(
    base="iic/nlp_raner_named-entity-recognition_chinese-base-news",
    dataset_fingerprint="f" * 64,
    metrics={"gate_f1": 0.75},
    revision="v1.0.1",
    admitted={"onnx-int8": {"entity_f1": 0.999, "score_difference": 0.001, "texts": 500}},
    refused={"torch-bf16": "slower than fp32 where it was made: 9.10 ms a text, fp32 0.07 ms"},
)


@pytest.fixture(scope="session")
def tiny_xlm_roberta(xlm_roberta_folder):
    tokenizer = SubwordTokenizer.read(xlm_roberta_folder, "xlm-roberta", split_into_characters=True)
    measures = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"model_type": "xlm-roberta", "vocab_size": 64, "max_position_embeddings": 34, "pad_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Tagger(TransformerEncoder(tokenizer, config | measures), FLAT).eval()


@pytest.fixture(scope="session")
def every_kind(lac, tiny_tagger, tiny_transformer, tiny_xlm_roberta):
    """One tagger of each kind a checkpoint can hold, with CRF weights that are all different."""
    taggers = {
        "LAC": lac,
        "a GRU": tiny_tagger(),
        "a nested GRU": tiny_tagger(decoder=NESTED),
        "BERT": tiny_transformer(FLAT),
        "BERT that reads words": tiny_transformer(FLAT, split_into_characters=False),
        "nested BERT": tiny_transformer(NESTED),
        "nested BERT of one layer": tiny_transformer(ONE_LAYER),
        "XLM-R": tiny_xlm_roberta,
    }
    generator = torch.Generator().manual_seed(7)
    for name, tagger in taggers.items():
        if name != "LAC":
            tagger.temperature = 1.7
            tagger.thresholds = {tagger.decoder.labels[0]: 0.25}
            for weights in tagger.crf.parameters():
                weights.data = torch.randn(weights.shape, generator=generator)
    return taggers


KINDS = (
    *("LAC", "a GRU", "a nested GRU", "BERT", "BERT that reads words", "nested BERT", "nested BERT of one layer"),
    "XLM-R",
)


@pytest.fixture
def folder(tiny_tagger, tmp_path):
    checkpoint.save(tiny_tagger(), MADE, tmp_path / "medical-v7")
    return tmp_path / "medical-v7"


@pytest.fixture
def bert_checkpoint(tiny_transformer, tmp_path):
    checkpoint.save(tiny_transformer(FLAT), MADE, tmp_path / "medical-v8")
    return tmp_path / "medical-v8"


def predictions(tagger):
    return Predictor(tagger, "").predict(TEXTS)


def test_a_checkpoint_of_before_there_were_thresholds_hides_nothing(folder):
    description = json.loads((folder / "nerloop.json").read_text(encoding="utf-8"))
    del description["thresholds"]
    (folder / "nerloop.json").write_text(json.dumps(description), encoding="utf-8")

    assert checkpoint.load(folder).tagger.thresholds == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_the_same_bit_by_bit(every_kind, kind, tmp_path):
    tagger = every_kind[kind]

    checkpoint.save(tagger, MADE, tmp_path / "saved")

    loaded = checkpoint.load(tmp_path / "saved").tagger
    assert weights_key(loaded) == weights_key(tagger)
    assert (loaded.decoder, loaded.temperature, loaded.training) == (tagger.decoder, tagger.temperature, False)
    assert loaded.thresholds == tagger.thresholds
    assert loaded.encoder.max_tokens == tagger.encoder.max_tokens
    assert loaded.encoder.tokenizer.split_into_characters == tagger.encoder.tokenizer.split_into_characters
    assert predictions(loaded) == predictions(tagger)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_a_checkpoint_has_the_same_files(every_kind, kind, tmp_path):
    checkpoint.save(every_kind[kind], MADE, tmp_path / "first")

    checkpoint.save(checkpoint.load(tmp_path / "first").tagger, MADE, tmp_path / "second")

    files = [checkpoint.verify(tmp_path / name)["files"] for name in ("first", "second")]
    assert {k: v for k, v in files[0].items() if k != WEIGHTS} == {k: v for k, v in files[1].items() if k != WEIGHTS}


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(bert_checkpoint, tmp_path, monkeypatch):
    synced = set()

    def fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.add((path.name, (tmp_path / "made").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    checkpoint.save(checkpoint.load(bert_checkpoint).tagger, Provenance("lac", ""), tmp_path / "made")

    assert {(path.name, False) for path in (tmp_path / "made").iterdir()} <= synced
    assert (tmp_path.name, True) in synced  # and then the name


def test_a_checkpoint_says_how_it_came_to_be(folder):
    loaded = checkpoint.load(folder)

    assert loaded.provenance == MADE
    assert loaded.folder == folder


def test_a_description_says_what_people_ask_of_a_model(bert_checkpoint):
    description = checkpoint.verify(bert_checkpoint)

    assert description["made_from"]["base"] == MADE.base
    assert description["made_from"]["metrics"] == {"gate_f1": 0.75}
    assert (description["decoder"], description["windows"]) == ("flat", {"tokens": 30, "overlap": 15})
    assert [layer["labels"] for layer in description["layers"]] == [["LOC", "疾病"]]


def test_a_checkpoint_of_ours_is_a_raner_directory_too(tiny_transformer, bert_checkpoint):
    tagger = tiny_transformer(FLAT)
    (bert_checkpoint / DESCRIPTION).unlink()

    loaded = checkpoint.load(bert_checkpoint)

    assert loaded.provenance is None
    assert weights_key(loaded.tagger) == weights_key(read_raner(bert_checkpoint)) == weights_key(tagger)
    assert loaded.tagger.decoder == FLAT


def test_a_bert_checkpoint_has_the_layout_and_the_keys_modelscope_reads(bert_checkpoint):
    def read(name):
        return json.loads((bert_checkpoint / name).read_text(encoding="utf-8"))

    assert read("configuration.json") == {
        "framework": "pytorch",
        "task": "named-entity-recognition",
        "model": {"type": "transformer-crf"},
        "pipeline": {"type": "named-entity-recognition"},
        "preprocessor": {"type": "sequence-labeling-tokenizer", "is_split_into_words": True},
    }
    assert read("label_mapping.json") == read("config.json")["label2id"]
    assert list(read("label_mapping.json")) == list(FLAT.layers[0].tags)
    weights = torch.load(bert_checkpoint / WEIGHTS, weights_only=True)
    assert {key.partition(".")[0] for key in weights} == {"encoder", "linear", "crf"}
    assert weights["crf.transitions"].shape == (9, 9)
    assert not any(key.startswith("encoder.model.") for key in weights)


@pytest.mark.parametrize("kind", ["a GRU", "nested BERT"])
def test_what_modelscope_cannot_read_says_so_in_its_type(every_kind, kind, tmp_path):
    checkpoint.save(every_kind[kind], MADE, tmp_path / "saved")

    configuration = json.loads((tmp_path / "saved" / "configuration.json").read_text(encoding="utf-8"))
    assert configuration["model"]["type"].startswith("nerloop-")


def test_a_checkpoint_is_made_of_tensors_text_and_json_only(folder, bert_checkpoint):
    common = {WEIGHTS, DESCRIPTION, "config.json", "configuration.json", "label_mapping.json"}

    assert {path.name for path in folder.iterdir()} == {*common, VOCABULARY}
    assert {path.name for path in bert_checkpoint.iterdir()} == {*common, "vocab.txt"}
    for written in (folder, bert_checkpoint):
        assert all(isinstance(t, torch.Tensor) for t in torch.load(written / WEIGHTS, weights_only=True).values())
        assert all(json.loads(path.read_text(encoding="utf-8")) for path in written.glob("*.json"))


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


FILES = (WEIGHTS, "vocab.txt", "config.json", "configuration.json", "label_mapping.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, -1])
def test_a_flipped_bit_is_found_and_the_file_named(bert_checkpoint, name, position):
    flip(bert_checkpoint / name, position)

    with pytest.raises(CheckpointCorrupt, match=rf"medical-v8: {name} .* sha256"):
        checkpoint.load(bert_checkpoint)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bert_checkpoint, name):
    (bert_checkpoint / name).unlink()

    with pytest.raises(CheckpointCorrupt, match=f"medical-v8: {name} is missing"):
        checkpoint.load(bert_checkpoint)


@pytest.mark.parametrize("name", [WEIGHTS, VOCABULARY])
def test_a_shortened_file_is_named(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:-10])

    with pytest.raises(CheckpointCorrupt, match=name):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", [VOCABULARY, DESCRIPTION])
def test_a_checkpoint_of_a_gru_without_what_marks_it_as_ours_is_refused(folder, name):
    (folder / name).unlink()

    with pytest.raises(CheckpointCorrupt, match=f"medical-v7: {name} is missing"):
        checkpoint.load(folder)


def change(folder, **values):
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_a_checkpoint_of_another_format_is_refused_with_both_numbers(folder):
    change(folder, format=1)

    with pytest.raises(CheckpointCorrupt, match="format 1; this program reads format 2"):
        checkpoint.load(folder)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    "values",
    [
        {"decoder": "banana"},
        {"layers": []},
        {"layers": [5]},
        {"layers": [{"tags": ["O", "B-PER", "I-PER", "E-PER", "S-PER"], "labels": ["PER"]}]},
        {"layers": [{"tags": list(FLAT.layers[0].tags)}]},
        {"temperature": None},
        {"made_from": {"base": "lac"}},
        {"made_from": {"base": "lac", "dataset_fingerprint": "", "colour": "red"}},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_the_weights_is_refused(bert_checkpoint, values):
    change(bert_checkpoint, **values)

    with pytest.raises(CheckpointCorrupt, match=rf"medical-v8: the files do not fit {DESCRIPTION}"):
        checkpoint.load(bert_checkpoint)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{", "not valid JSON"),
        (b'{"format": 2, "base": "\xff"}', "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"format": 2}', "lacks decoder, layers, temperature, made_from, files"),
        (b'{"format": 2, "decoder": 1, "layers": 1, "temperature": 1, "made_from": 1, "files": {}}', WEIGHTS),
        (b'{"format": 2, "decoder": 1, "layers": 1, "temperature": 1, "made_from": 1, "files": 5}', WEIGHTS),
    ],
    ids=["no JSON", "not UTF-8", "a list", "without keys", "without files", "files of another kind"],
)
def test_a_description_of_another_shape_is_named_with_what_is_wrong(folder, content, named):
    (folder / DESCRIPTION).write_bytes(content)

    with pytest.raises(CheckpointCorrupt, match=rf"medical-v7: .*{DESCRIPTION}.*{named}"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", [*TOKENIZER_FILES[1:], VOCABULARY])
def test_a_file_that_would_be_read_unverified_is_refused_by_name(bert_checkpoint, name):
    (bert_checkpoint / name).write_text("{}", encoding="utf-8")

    with pytest.raises(CheckpointCorrupt, match=rf"medical-v8: {name} is not among the files of {DESCRIPTION}"):
        checkpoint.load(bert_checkpoint)


@pytest.mark.parametrize("name", ["config.json", "configuration.json", WEIGHTS])
def test_a_description_vouches_for_every_file_a_model_is_built_from(bert_checkpoint, name):
    files = checkpoint.verify(bert_checkpoint)["files"]
    change(bert_checkpoint, files={key: digest for key, digest in files.items() if key != name})

    with pytest.raises(CheckpointCorrupt, match=rf"{DESCRIPTION} does not list {name}"):
        checkpoint.load(bert_checkpoint)


def test_a_description_vouches_for_the_vocabulary(bert_checkpoint):
    files = checkpoint.verify(bert_checkpoint)["files"]
    change(bert_checkpoint, files={key: digest for key, digest in files.items() if key != "vocab.txt"})

    with pytest.raises(CheckpointCorrupt, match=rf"{DESCRIPTION} does not list a vocabulary"):
        checkpoint.load(bert_checkpoint)


def test_files_that_nothing_reads_may_lie_beside_a_checkpoint(bert_checkpoint):
    for name in ("README.md", ".gitattributes", ".msc", "notes.json"):
        (bert_checkpoint / name).write_text("medical", encoding="utf-8")

    assert checkpoint.load(bert_checkpoint).provenance == MADE


def test_a_description_cannot_point_to_a_file_elsewhere(folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    files = checkpoint.verify(folder)["files"]
    change(folder, files=files | {"../secret": "0" * 64})

    with pytest.raises(CheckpointCorrupt, match="secret is missing"):
        checkpoint.load(folder)


def test_a_corrupt_checkpoint_is_a_registry_error(folder):
    flip(folder / WEIGHTS, 100)

    with pytest.raises(RegistryError):
        checkpoint.verify(folder)


def test_a_save_that_is_interrupted_leaves_nothing(tiny_tagger, tmp_path):
    unwritable = Provenance("lac", "", metrics={"gate_f1": object()})

    with pytest.raises(TypeError):
        checkpoint.save(tiny_tagger(), unwritable, tmp_path / "medical-v7")

    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_something_else_is_found_before_anyone_relies_on_it(tiny_tagger, tmp_path, monkeypatch):
    save = torch.save

    def save_something_else(weights, path):
        save({name: tensor + 1 for name, tensor in weights.items()}, path)

    monkeypatch.setattr(torch, "save", save_something_else)

    with pytest.raises(BadInput, match="what was read back differs"):
        checkpoint.save(tiny_tagger(), MADE, tmp_path / "medical-v7")

    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_never_overwritten(folder, tiny_tagger):
    before = predictions(checkpoint.load(folder).tagger)

    with pytest.raises(BadInput, match="medical-v7"):
        checkpoint.save(tiny_tagger(seed=9), MADE, folder)

    assert predictions(checkpoint.load(folder).tagger) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_a_place_that_cannot_be_written_is_bad_input(tiny_tagger, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(BadInput, match="cannot write the checkpoint"):
        checkpoint.save(tiny_tagger(), MADE, tmp_path / "file" / "medical-v7")


def test_saving_changes_nothing_in_the_model(tiny_tagger, tmp_path):
    tagger = tiny_tagger().train()
    before = weights_key(tagger)

    checkpoint.save(tagger, MADE, tmp_path / "medical-v7")

    assert (weights_key(tagger), tagger.training) == (before, True)


@settings(max_examples=10)
@given(st.sets(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=4))
def test_labels_of_any_name_survive(tiny_tagger, tmp_path_factory, labels):
    tagger = tiny_tagger(labels=tuple(labels))
    folder = tmp_path_factory.mktemp("labels") / "saved"

    checkpoint.save(tagger, MADE, folder)

    assert checkpoint.load(folder).tagger.decoder == tagger.decoder
