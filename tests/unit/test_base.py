import pytest

from nerloop import checkpoint
from nerloop.base import load_base
from nerloop.checkpoint import DESCRIPTION, Provenance
from nerloop.errors import BadInput
from nerloop.predictor import Predictor
from nerloop.tagger import weights_key

NEWS = "iic/nlp_raner_named-entity-recognition_chinese-base-news"


@pytest.fixture
def raner_folder(tiny_transformer, tmp_path):
    """A RaNER directory that is not ours."""
    checkpoint.save(tiny_transformer(), Provenance("x", ""), tmp_path / "raner")
    (tmp_path / "raner" / DESCRIPTION).unlink()
    return tmp_path / "raner"


def test_lac_is_a_copy_of_the_starter_that_may_be_trained(lac, tmp_path):
    base = load_base("lac", tmp_path)

    assert (base.source, base.revision) == ("lac", "")
    assert base.tagger is not lac
    assert base.tagger.encoder is not lac.encoder
    assert Predictor(base.tagger, "").predict(["张三在北京"]) == Predictor(lac, "").predict(["张三在北京"])


def test_a_checkpoint_of_ours_can_be_the_base(tiny_tagger, tmp_path):
    tagger = tiny_tagger()
    folder = tmp_path / "medical-v7"
    checkpoint.save(tagger, Provenance("lac", ""), folder)

    base = load_base(str(folder), tmp_path / "cache")

    assert (base.source, base.revision) == (str(folder), "")
    assert weights_key(base.tagger) == weights_key(tagger)


def test_a_raner_directory_can_be_the_base(tiny_transformer, raner_folder, tmp_path):
    base = load_base(str(raner_folder), tmp_path / "cache")

    assert base.source == str(raner_folder)
    assert weights_key(base.tagger) == weights_key(tiny_transformer())


@pytest.mark.parametrize(("source", "revision"), [(NEWS, "master"), (f"{NEWS}@v1.0.1", "v1.0.1")])
def test_a_model_that_was_fetched_from_the_hub_needs_no_network(
    tiny_transformer, raner_folder, tmp_path, monkeypatch, source, revision
):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")
    cache = tmp_path / "cache"
    cache.mkdir()
    raner_folder.rename(cache / f"{NEWS.replace('/', '--')}@{revision}")

    base = load_base(source, cache)

    assert (base.source, base.revision) == (NEWS, revision)
    assert weights_key(base.tagger) == weights_key(tiny_transformer())


def test_a_directory_counts_before_a_hub_id_of_the_same_name(tiny_transformer, raner_folder, tmp_path, monkeypatch):
    (tmp_path / "iic").mkdir()
    raner_folder.rename(tmp_path / "iic" / "news")
    monkeypatch.chdir(tmp_path)

    base = load_base("iic/news", tmp_path / "cache")

    assert weights_key(base.tagger) == weights_key(tiny_transformer())


@pytest.mark.parametrize("source", ["no-such-model", "/no/such/model", "../model", "a/b/c", "a/b@", "lac "])
def test_a_base_that_is_none_of_these_is_refused_with_what_to_give(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        BadInput, match=r"no such directory and no ModelScope id; give a path, an id such as iic/.* 'lac'"
    ):
        load_base(source, tmp_path / "cache")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"not a RaNER directory: .*config\.json.* is missing"):
        load_base(str(tmp_path), tmp_path / "cache")
