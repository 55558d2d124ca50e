import pytest

from nerloop import checkpoint
from nerloop.base import load_base
from nerloop.checkpoint import TrainingFacts
from nerloop.errors import BadInput
from nerloop.predictor import Predictor


def test_lac_is_a_copy_of_the_starter_that_may_be_trained(lac):
    base = load_base("lac")

    assert base is not lac
    assert Predictor(base, "").predict(["张三在北京"]) == Predictor(lac, "").predict(["张三在北京"])


def test_a_checkpoint_of_ours_can_be_the_base(tiny_tagger, tmp_path):
    tagger = tiny_tagger()
    checkpoint.save(tagger, TrainingFacts("lac", ""), tmp_path / "medical-v7")

    base = load_base(str(tmp_path / "medical-v7"))

    assert Predictor(base, "").predict(["0123"]) == Predictor(tagger, "").predict(["0123"])


def test_a_base_that_is_not_there_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(BadInput, match=r"no-such-model.* no such directory; give a path, or 'lac'"):
        load_base(str(tmp_path / "no-such-model"))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"not a RaNER directory: .*config\.json.* is missing"):
        load_base(str(tmp_path))
