"""Our keys in a real Valkey."""

from nerloop.loop import Loop
from nerloop.project_state import Binding


def test_a_label_noted_twice_counts_once(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1", "2"])

    assert loop.state.add_new_labels("medical", ["2"]) == 2


def test_labels_that_come_while_label_studio_is_read_stay_noted(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1", "2"])
    noted = loop.state.new_label_ids("medical")
    loop.state.add_new_labels("medical", ["3"])

    loop.state.correct_new_labels("medical", noted, {"2"})

    assert loop.state.new_label_ids("medical") == {"2", "3"}


def test_models_count_apart(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1"])

    assert loop.state.new_labels("finance") == 0


def test_a_project_connected_while_label_studio_is_read_stays_bound(loop: Loop) -> None:
    loop.state.save_binding(Binding(1, "gone", 50))
    noted = loop.state.bindings()
    loop.state.save_binding(Binding(3, "new", 50))

    loop.state.correct_bindings(noted, [Binding(2, "finance", 10)])

    assert loop.state.bindings() == [Binding(2, "finance", 10), Binding(3, "new", 50)]
    assert loop.state.binding(1) is None


def test_a_replica_that_stops_beating_is_forgotten(loop: Loop) -> None:
    loop.state.beat("a", {"medical": "medical-v1"}, seconds=60)
    loop.redis.delete("nerloop:replica:a")
    loop.state.beat("b", {}, seconds=60)

    assert loop.state.replicas() == {"b": {}}
