import pytest

from nerloop import checkpoint
from nerloop.checkpoint import DESCRIPTION, Provenance
from nerloop.errors import BadInput, RegistryError
from nerloop.loop import Loop
from nerloop.models import load_model
from nerloop.predictor import Predictor
from nerloop.settings import Settings
from nerloop.tagger import weights_key

NEWS = "iic/nlp_raner_named-entity-recognition_chinese-base-news"


@pytest.fixture
def loop(tmp_path):
    """Settings alone: nothing here asks a server."""
    return Loop(Settings(home=tmp_path / "home", model_dir=tmp_path / "cache"))


@pytest.fixture
def raner_folder(tiny_transformer, tmp_path):
    """A RaNER directory that is not ours."""
    checkpoint.save(tiny_transformer(), Provenance("x", ""), tmp_path / "raner")
    (tmp_path / "raner" / DESCRIPTION).unlink()
    return tmp_path / "raner"


def test_lac_is_a_copy_of_the_starter_that_may_be_trained(lac, loop):
    model = load_model("lac", loop)

    assert (model.source, model.revision) == ("lac", "")
    assert model.tagger is not lac
    assert model.tagger.encoder is not lac.encoder
    assert Predictor(model.tagger, "").predict(["张三在北京"]) == Predictor(lac, "").predict(["张三在北京"])


def test_a_checkpoint_of_ours_can_be_read(tiny_tagger, loop, tmp_path):
    tagger = tiny_tagger()
    folder = tmp_path / "medical-v7"
    checkpoint.save(tagger, Provenance("lac", ""), folder)

    model = load_model(str(folder), loop)

    assert (model.source, model.revision) == (str(folder), "")
    assert weights_key(model.tagger) == weights_key(tagger)


def test_a_raner_directory_can_be_read(tiny_transformer, raner_folder, loop):
    model = load_model(str(raner_folder), loop)

    assert model.source == str(raner_folder)
    assert weights_key(model.tagger) == weights_key(tiny_transformer())


@pytest.mark.parametrize(("source", "revision"), [(NEWS, "master"), (f"{NEWS}@v1.0.1", "v1.0.1")])
def test_a_model_that_was_fetched_from_the_hub_needs_no_network(
    tiny_transformer, raner_folder, loop, tmp_path, monkeypatch, source, revision
):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")
    cache = tmp_path / "cache"
    cache.mkdir()
    raner_folder.rename(cache / f"{NEWS.replace('/', '--')}@{revision}")

    model = load_model(source, loop)

    assert model.source == NEWS
    # A branch may move: then the weights that came are named too.
    pinned = revision != "master"
    assert model.revision == (revision if pinned else f"master (weights {weights_key(model.tagger)})")
    assert weights_key(model.tagger) == weights_key(tiny_transformer())


def test_a_directory_counts_before_a_hub_id_of_the_same_name(
    tiny_transformer, raner_folder, loop, tmp_path, monkeypatch
):
    (tmp_path / "iic").mkdir()
    raner_folder.rename(tmp_path / "iic" / "news")
    monkeypatch.chdir(tmp_path)

    model = load_model("iic/news", loop)

    assert weights_key(model.tagger) == weights_key(tiny_transformer())


def test_a_version_is_not_looked_for_in_a_registry_that_is_not_there(loop):
    with pytest.raises(RegistryError, match=r"medical-v7: no such directory.*no registry in .*NERLOOP_HOME"):
        load_model("medical-v7", loop)

    assert not loop.settings.home.exists()


@pytest.mark.parametrize("source", ["no-such-model", "/no/such/model", "../model", "a/b/c", "a/b@", "lac "])
def test_a_name_that_is_none_of_these_is_refused_with_what_to_give(loop, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        BadInput, match=r"no such directory; give the path of .* 'lac' .* medical-v7, or a ModelScope id such as iic/"
    ):
        load_model(source, loop)


def test_a_folder_without_a_model_is_refused(loop, tmp_path):
    with pytest.raises(BadInput, match=r"not a RaNER directory: .*config\.json.* is missing"):
        load_model(str(tmp_path), loop)
