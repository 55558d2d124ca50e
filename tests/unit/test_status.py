import pytest

from nerloop.project_state import Binding
from nerloop.status import dropped_entities
from nerloop.versions import ModelVersion

TRAINED = [ModelVersion("medical", 2, metrics={"dropped_entities": 12.0}), ModelVersion("medical", 1)]


def test_what_the_newest_version_could_not_learn_is_counted():
    assert dropped_entities(Binding(3, "medical", 50), TRAINED) == 12


def test_a_project_that_is_connected_nested_meanwhile_is_not_asked_for_it_again():
    assert dropped_entities(Binding(3, "medical", 50, "nested"), TRAINED) == 0


@pytest.mark.parametrize("versions", [[], TRAINED[1:]], ids=["never trained", "registered from elsewhere"])
def test_where_nothing_was_counted_nothing_is_said(versions):
    assert dropped_entities(Binding(3, "medical", 50), versions) == 0
