"""Our keys in a real Valkey."""

import time

from nerloop.loop import Loop
from nerloop.project_state import Binding, Waiting


def test_a_label_noted_twice_counts_once(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1", "2"])

    assert loop.state.add_new_labels("medical", ["2"]) == 2


def test_labels_that_come_while_label_studio_is_read_stay_noted(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1", "2"])
    noted = loop.state.new_label_ids("medical")
    loop.state.add_new_labels("medical", ["3"])

    loop.state.correct_new_labels("medical", noted, {"2": None})

    assert loop.state.new_label_ids("medical") == {"2", "3"}


def test_a_label_has_waited_since_it_was_noted_first(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1"])
    first = loop.redis.zscore("nerloop:waiting:medical", "1")
    loop.state.add_new_labels("medical", ["1", "2"])

    waiting = loop.state.waiting("medical")

    assert loop.redis.zscore("nerloop:waiting:medical", "1") == first
    assert waiting.count == 2
    assert 0 <= waiting.newest <= waiting.oldest < 60


def test_labels_found_after_redis_was_emptied_have_waited_since_they_were_changed(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["3"])

    changed = {"1": time.time() - 3600, "2": time.time() + 3600, "3": time.time() - 7200, "4": None}
    loop.state.correct_new_labels("medical", {"3"}, changed)

    waiting = loop.state.waiting("medical")
    assert waiting.count == 4
    assert 3600 <= waiting.oldest < 3660  # 3 was noted already, and its note counts
    assert 0 <= waiting.newest < 60


def test_labels_noted_before_the_clock_was_set_back_are_dated_again(loop: Loop) -> None:
    loop.redis.zadd("nerloop:waiting:medical", {"1": time.time() + 3600, "2": time.time() + 3600})

    assert loop.state.waiting("medical").newest < 0
    loop.state.correct_new_labels("medical", {"1", "2"}, {"1": time.time() - 60})

    waiting = loop.state.waiting("medical")
    assert waiting.count == 1
    assert 60 <= waiting.oldest < 120


def test_a_model_that_nobody_feeds_any_more_is_forgotten(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1"])

    loop.state.forget_new_labels("medical")

    assert loop.state.waiting("medical") == Waiting(0)


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
    refused = {"medical": {"version": "medical-v2", "reason": "cannot be read"}}
    loop.state.beat("a", {"medical": "medical-v1"}, refused, seconds=60)
    loop.redis.delete("nerloop:replica:a", "nerloop:refused:a")
    loop.state.beat("b:1", {}, refused, seconds=60)

    assert loop.state.replicas() == {"b:1": {}}
    assert loop.state.refused() == {"b:1": refused}
