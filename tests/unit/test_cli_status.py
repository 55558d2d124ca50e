from dataclasses import replace

from rich.console import Console

from nerloop.cli.status import _project_table
from nerloop.gate import Contest
from nerloop.status import ProjectStatus

CONTEST = Contest("medical-v6", ("DRUG [旧]",), 140, 0.7, 0.8, (0.05, 0.15), 0.0, {"DRUG [旧]": 0.1})
STATUS = ProjectStatus(
    project_id=3,
    title="Ward 7",
    url="http://127.0.0.1:8080/projects/3/data",
    model="medical",
    labels=("DRUG", "PER"),
    tasks=100,
    annotated=60,
    new_labels=10,
    train_threshold=50,
    fine_tune=None,
    refresh=None,
    production="medical-v7",
    f1=0.8,
    provisional=False,
    promotion="micro-F1 0.700 (medical-v6) → 0.800",
    change="promoted medical-v7",
    change_kind="promotion",
    previous="medical-v6",
    paused=None,
    waiting=(),
    last_decision="medical-v7 promoted: micro-F1 0.700 (medical-v6) → 0.800",
    last_contests=(CONTEST,),
    dropped_entities=0,
    shown_version="medical-v7",
    fresh=40,
    stale=0,
)


def shown(status, refused=None):
    console = Console(width=300, record=True)
    console.print(_project_table(status, {}, refused or {}))
    return console.export_text()


def test_the_last_decision_is_shown_with_its_numbers():
    text = shown(STATUS)

    assert STATUS.last_decision in text
    assert "against medical-v6: micro-F1 0.700 → 0.800, 95 % interval" in text
    assert "DRUG [旧] +0.100" in text
    assert "provisional" not in text


def test_what_a_replica_refuses_of_the_model_is_shown_with_the_reason():
    refused = {
        "one": {"medical": {"version": "medical-v7", "reason": "pytorch_model.bin [cut]"}},
        "two": {"finance": {"version": "finance-v1", "reason": "another model's"}},
    }

    text = shown(STATUS, refused)

    assert "by replica one: medical-v7: pytorch_model.bin [cut]" in text
    assert "finance-v1" not in text


def test_a_provisional_production_is_marked():
    assert "medical-v7   gate F1 0.800, provisional" in shown(replace(STATUS, provisional=True))


def test_why_production_was_promoted_is_still_shown_after_a_later_candidate_was_refused():
    refused = replace(STATUS, last_decision="medical-v8 rejected: micro-F1 0.800 (medical-v7) → 0.700")

    assert shown(refused).count(STATUS.promotion) == 1
    assert shown(STATUS).count(STATUS.promotion) == 1


def test_a_pause_is_shown_with_who_why_since_when_and_how_to_end_it():
    pause = {"since": "2026-05-04T08:00:00+00:00", "kind": "rollback", "by": "Li Na", "why": "finds no [DRUG]"}
    text = shown(
        replace(
            STATUS,
            change="rolled back to medical-v6, by Li Na: finds no [DRUG]",
            change_kind="rollback",
            paused=pause,
            waiting=("medical-v9",),
        )
    )

    assert "rolled back to medical-v6, by Li Na: finds no [DRUG]" in text
    assert "with a rollback at 2026-05-04T08:00:00+00:00 by Li Na: finds no [DRUG]; `nerloop resume medical`" in text
    assert "medical-v9 passed the gate" in text


def test_where_nothing_is_paused_nothing_is_said_of_it():
    assert "paused" not in shown(STATUS) and "by hand" not in shown(STATUS) and "waits" not in shown(STATUS)


def test_a_running_refresh_is_shown_with_what_is_done_and_the_time_left():
    running = {"state": "started", "done": 3000, "total": 10000, "seconds_left": 21}
    text = shown(replace(STATUS, refresh=running, fresh=3000, stale=7000))

    assert "3000 fresh, 7000 stale, refresh started 3000/10000, 21 s left" in text
    assert "refresh" not in shown(STATUS)
