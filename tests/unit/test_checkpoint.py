import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nerloop import checkpoint
from nerloop.checkpoint import DESCRIPTION, VOCABULARY, WEIGHTS, TrainingFacts
from nerloop.encoder import pad
from nerloop.errors import BadInput, CheckpointCorrupt, RegistryError
from nerloop.predictor import Predictor

TEXTS = ["0123456789", "abc", "", "0f1e2d3c4b5a", "张三0😀"]
FACTS = TrainingFacts(base="lac", dataset_fingerprint="f" * 64, metrics={"gate_f1": 0.75})
TAGS = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-疾病", "I-疾病", "E-疾病", "S-疾病"]


@pytest.fixture
def folder(tiny_tagger, tmp_path):
    checkpoint.save(tiny_tagger(), FACTS, tmp_path / "medical-v7")
    return tmp_path / "medical-v7"


def predictions(tagger):
    return Predictor(tagger, "").predict(TEXTS)


def test_a_saved_model_predicts_exactly_as_before(tiny_tagger, tmp_path):
    tagger = tiny_tagger()
    tagger.temperature = 1.7

    checkpoint.save(tagger, FACTS, tmp_path / "saved")

    loaded = checkpoint.load(tmp_path / "saved")
    assert predictions(loaded) == predictions(tagger)
    assert (loaded.tag_set, loaded.temperature, loaded.training) == (tagger.tag_set, 1.7, False)


def test_a_starter_can_be_saved_with_its_own_tags(lac, tmp_path):
    checkpoint.save(lac, FACTS, tmp_path / "saved")

    loaded = Predictor(checkpoint.load(tmp_path / "saved"), "")
    text = "张三在北京市工作，ＡＢＣ公司。"
    assert loaded.predict([text]) == Predictor(lac, "").predict([text])


def test_a_checkpoint_says_how_it_came_to_be(folder):
    description = checkpoint.verify(folder)

    assert description["training"] == {"base": "lac", "dataset_fingerprint": "f" * 64, "metrics": {"gate_f1": 0.75}}
    assert description["labels"] == ["LOC", "PER"]


def test_a_checkpoint_is_made_of_tensors_and_json_only(folder):
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, VOCABULARY, DESCRIPTION}
    assert load_file(folder / WEIGHTS)
    assert json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))["OOV"] == 0


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [WEIGHTS, VOCABULARY])
@pytest.mark.parametrize("position", [0, -1])
def test_a_flipped_bit_is_found_and_the_file_named(folder, name, position):
    flip(folder / name, position)

    with pytest.raises(CheckpointCorrupt, match=rf"medical-v7: {name} .* sha256"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", [WEIGHTS, VOCABULARY, DESCRIPTION])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()

    with pytest.raises(CheckpointCorrupt, match=f"medical-v7: {name} is missing"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", [WEIGHTS, VOCABULARY])
def test_a_shortened_file_is_named(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:-10])

    with pytest.raises(CheckpointCorrupt, match=name):
        checkpoint.load(folder)


def test_a_checkpoint_of_another_format_is_refused_with_both_numbers(folder):
    change(folder, format=2)

    with pytest.raises(CheckpointCorrupt, match="format 2; this program reads format 1"):
        checkpoint.load(folder)


def test_an_unknown_encoder_is_refused_by_name(folder):
    change(folder, encoder={"kind": "mamba", "config": {}})

    with pytest.raises(CheckpointCorrupt, match="mamba"):
        checkpoint.load(folder)


def test_a_description_that_is_no_json_is_named(folder):
    (folder / DESCRIPTION).write_text("{", encoding="utf-8")

    with pytest.raises(CheckpointCorrupt, match=DESCRIPTION):
        checkpoint.load(folder)


def test_tags_that_do_not_fit_the_weights_are_refused(folder):
    change(folder, tags=["O", "B-PER", "I-PER", "E-PER", "S-PER"])

    with pytest.raises(CheckpointCorrupt, match=f"{WEIGHTS} does not fit {DESCRIPTION}"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "content",
    [b'{"format": 1, "base": "\xff"}', b"[]", b'{"format": 1}', b'{"format": 1, "files": {}}'],
    ids=["not UTF-8", "a list", "without files", "without encoder"],
)
def test_a_description_of_another_shape_is_named(folder, content):
    sums = {name: checkpoint.verify(folder)["files"][name] for name in (WEIGHTS, VOCABULARY)}
    (folder / DESCRIPTION).write_bytes(content.replace(b'"files": {}', b'"files": ' + json.dumps(sums).encode()))

    with pytest.raises(CheckpointCorrupt, match=DESCRIPTION):
        checkpoint.load(folder)


def change(folder, **values):
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_a_corrupt_checkpoint_is_a_registry_error(folder):
    flip(folder / WEIGHTS, 100)

    with pytest.raises(RegistryError):
        checkpoint.verify(folder)


def test_a_save_that_is_interrupted_leaves_nothing(tiny_tagger, tmp_path):
    unwritable = TrainingFacts("lac", "", metrics={"gate_f1": object()})

    with pytest.raises(TypeError):
        checkpoint.save(tiny_tagger(), unwritable, tmp_path / "medical-v7")

    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_never_overwritten(folder, tiny_tagger):
    before = predictions(checkpoint.load(folder))

    with pytest.raises(BadInput, match="medical-v7"):
        checkpoint.save(tiny_tagger(seed=9), FACTS, folder)

    assert predictions(checkpoint.load(folder)) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_a_place_that_cannot_be_written_is_bad_input(tiny_tagger, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(BadInput, match="cannot write the checkpoint"):
        checkpoint.save(tiny_tagger(), FACTS, tmp_path / "file" / "medical-v7")


@pytest.fixture(scope="module")
def bert():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=34,
    )
    return BertModel(config).eval()


VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"0123456789abcde"]


def head():
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "linear.weight": (9, 8),
        "linear.bias": (9,),
        "crf.start_transitions": (9,),
        "crf.end_transitions": (9,),
        "crf.transitions": (9, 9),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_raner(folder, bert, weights=None, encoder="encoder.", rest=""):
    folder.mkdir()
    config = bert.config.to_dict() | {"model_type": "structbert", "label2id": {tag: n for n, tag in enumerate(TAGS)}}
    (folder / "config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    named = {encoder + key: tensor for key, tensor in bert.state_dict().items()}
    named |= {rest + key: tensor for key, tensor in head().items()}
    named[encoder + "embeddings.position_ids"] = torch.arange(34)[None]  # older releases of transformers store it
    torch.save(named if weights is None else weights, folder / "pytorch_model.bin")
    return folder


LAYOUTS = [
    ("encoder.", ""),
    ("encoder.", "head."),
    ("embedder.transformer_model.", ""),
]


@pytest.mark.parametrize(("encoder", "rest"), LAYOUTS, ids=["ModelScope", "with a head", "AdaSeq"])
def test_a_raner_directory_is_read_with_its_own_scores(tmp_path, bert, encoder, rest):
    tagger = checkpoint.read_raner(write_raner(tmp_path / "raner", bert, encoder=encoder, rest=rest))

    with torch.inference_mode():
        found = tagger.emissions(*pad([tagger.encoder.ids("0a9")]))[0]
        framed = torch.tensor([[2, 5, 15, 14, 3]])
        hidden = bert(input_ids=framed).last_hidden_state[0, 1:-1]
    assert torch.allclose(found, hidden @ head()["linear.weight"].T + head()["linear.bias"], atol=1e-5)
    assert torch.equal(tagger.crf.transitions, head()["crf.transitions"])
    assert torch.equal(tagger.crf.end_transitions, head()["crf.end_transitions"])


def test_the_labels_of_a_raner_directory_are_those_of_its_config(tmp_path, bert):
    tagger = checkpoint.read_raner(write_raner(tmp_path / "raner", bert))

    assert tagger.tag_set.tags == tuple(TAGS)
    assert tagger.tag_set.labels == ("PER", "疾病")


def test_unknown_characters_and_capitals_have_rows_in_a_raner_vocabulary(tmp_path, bert):
    encoder = checkpoint.read_raner(write_raner(tmp_path / "raner", bert)).encoder

    assert encoder.ids("aA") == [15, 15]
    assert encoder.ids("张😀 \r\n") == [1, 1, 1, 1, 1]


def test_a_raner_model_labels_texts_that_are_longer_than_its_positions(tmp_path, bert):
    tagger = checkpoint.read_raner(write_raner(tmp_path / "raner", bert))

    short, long = Predictor(tagger, "").predict(["0123", "0123456789" * 20])

    assert long.entities[-1].end > 150
    assert short == Predictor(tagger, "").predict(["0123"])[0]


def test_padding_changes_nothing_for_a_transformer(tmp_path, bert):
    predictor = Predictor(checkpoint.read_raner(write_raner(tmp_path / "raner", bert)), "")
    texts = ["01", "a0b1c2d3e4", "0", "9876543210"]

    together = predictor.predict(texts)

    for text, prediction in zip(texts, together, strict=True):
        (alone,) = predictor.predict([text])
        assert prediction.entities == alone.entities
        assert [e.score for e in prediction.entities] == pytest.approx([e.score for e in alone.entities], abs=1e-3)


def test_a_raner_model_survives_our_own_format(tmp_path, bert):
    tagger = checkpoint.read_raner(write_raner(tmp_path / "raner", bert))

    checkpoint.save(tagger, FACTS, tmp_path / "saved")

    assert predictions(checkpoint.load(tmp_path / "saved")) == predictions(tagger)


class Trap:
    """An object whose pickle makes a folder when it is read, as a malicious checkpoint might do worse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_weights_that_would_run_code_are_refused_and_run_nothing(tmp_path, bert):
    weights = {"encoder.x": torch.zeros(1), "trap": Trap(tmp_path / "sprung")}

    with pytest.raises((BadInput, pickle.UnpicklingError)):
        checkpoint.read_raner(write_raner(tmp_path / "raner", bert, weights))

    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "pytorch_model.bin"])
def test_a_raner_directory_without_a_file_is_refused_by_its_name(tmp_path, bert, name):
    (write_raner(tmp_path / "raner", bert) / name).unlink()

    with pytest.raises(BadInput, match=rf"raner is not a RaNER directory: .*{name}.* is missing"):
        checkpoint.read_raner(tmp_path / "raner")


def test_a_raner_config_without_tags_is_refused_by_the_name_of_the_key(tmp_path, bert):
    folder = write_raner(tmp_path / "raner", bert)
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")

    with pytest.raises(BadInput, match="label2id"):
        checkpoint.read_raner(folder)


def test_raner_weights_without_a_crf_are_refused_by_the_names_of_the_keys(tmp_path, bert):
    weights = {f"encoder.{key}": tensor for key, tensor in bert.state_dict().items()}

    with pytest.raises(BadInput, match=r"keys missing .*linear"):
        checkpoint.read_raner(write_raner(tmp_path / "raner", bert, weights))


def test_raner_weights_with_keys_of_another_model_are_refused_by_name(tmp_path, bert):
    weights = {f"encoder.{key}": tensor for key, tensor in bert.state_dict().items()}

    with pytest.raises(BadInput, match=r"unexpected .*decoder"):
        checkpoint.read_raner(write_raner(tmp_path / "raner", bert, weights | head() | {"decoder.x": torch.zeros(1)}))


def spoil_config(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")


def spoil_vocabulary(folder):
    (folder / "vocab.txt").write_text("0\n1\n2\n", encoding="utf-8")


def spoil_weights(folder):
    (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:500])


def spoil_shapes(folder):
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(weights | {"linear.weight": torch.zeros(3, 8)}, folder / "pytorch_model.bin")


@pytest.mark.parametrize("spoil", [spoil_config, spoil_vocabulary, spoil_weights, spoil_shapes])
def test_a_broken_raner_directory_is_bad_input(tmp_path, bert, spoil):
    folder = write_raner(tmp_path / "raner", bert)
    spoil(folder)

    with pytest.raises(BadInput, match="raner"):
        checkpoint.read_raner(folder)
