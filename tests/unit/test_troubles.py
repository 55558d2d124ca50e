import logging

from nerloop.errors import LabelStudioUnreachable, QueueUnreachable
from nerloop.troubles import Troubles


def test_a_trouble_is_said_when_it_begins_when_it_changes_and_when_it_is_over(caplog):
    troubles = Troubles()
    met = [None, LabelStudioUnreachable, LabelStudioUnreachable, QueueUnreachable, LabelStudioUnreachable, None, None]

    with caplog.at_level(logging.INFO):
        for number, kind in enumerate(met):
            with troubles.of("Reconcile"):
                if kind is not None:
                    raise kind(f"time {number}")

    assert caplog.messages == [
        "Reconcile is put off: time 1",
        "Reconcile is put off: time 3",
        "Reconcile is put off: time 4",
        "Reconcile works again",
    ]


def test_one_trouble_does_not_silence_another(caplog):
    troubles = Troubles()

    for what in ("Refreshing project 1", "Refreshing project 2"):
        with troubles.of(what):
            raise LabelStudioUnreachable("down")

    assert len(caplog.messages) == 2
