import os
from pathlib import Path

import pytest

from nerloop.errors import QueueUnreachable
from nerloop.gazetteer import Term
from nerloop.known_terms import KnownTerms, gazetteer_path
from nerloop.label_memory import LABEL_MEMORY
from nerloop.settings import Settings

REMEMBERED = Term("DRUG", 0.75, LABEL_MEMORY)


class State:
    """Stands in for Redis."""

    def __init__(self) -> None:
        self.stored: dict[str, Term] = {}
        self.down = False

    def memory(self, model: str) -> dict[str, Term]:
        if self.down:
            raise QueueUnreachable("down")
        return dict(self.stored)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def known(state: State, tmp_path: Path) -> KnownTerms:
    return KnownTerms(state, Settings(home=tmp_path))


def write(tmp_path: Path, text: str, at: int) -> None:
    path = gazetteer_path(Settings(home=tmp_path), "medical")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (at, at))


def test_memory_and_file_are_followed_as_they_change(known: KnownTerms, state: State, tmp_path: Path) -> None:
    assert known.update("medical").terms == {}

    state.stored = {"布洛芬": REMEMBERED}
    write(tmp_path, "阿司匹林\tDRUG\n", at=1)
    assert known.of("medical").terms == {}
    assert known.update("medical").terms == {"布洛芬": REMEMBERED, "阿司匹林": Term("DRUG")}

    state.stored = {}
    write(tmp_path, "对乙酰氨基酚\tDRUG\n", at=2)
    assert known.update("medical").terms == known.of("medical").terms == {"对乙酰氨基酚": Term("DRUG")}

    gazetteer_path(Settings(home=tmp_path), "medical").unlink()
    assert known.update("medical").terms == {}


def test_what_annotators_say_wins_over_the_file(known: KnownTerms, state: State, tmp_path: Path) -> None:
    state.stored = {"布洛芬": REMEMBERED}
    write(tmp_path, "布洛芬\tORG\n", at=1)

    assert known.update("medical").terms == {"布洛芬": REMEMBERED}


def test_while_redis_is_down_or_the_file_is_wrong_all_stays_as_it_was(
    known: KnownTerms, state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state.stored = {"布洛芬": REMEMBERED}
    write(tmp_path, "阿司匹林\tDRUG\n", at=1)
    before = known.update("medical")

    state.down = True
    write(tmp_path, "阿司匹林 DRUG\n", at=2)

    assert known.update("medical").terms == known.update("medical").terms == before.terms
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == [
        f"The gazetteer of medical stays as it was: {gazetteer_path(Settings(home=tmp_path), 'medical')}, line 1: "
        "'阿司匹林 DRUG' is not a term, a tab and its label"
    ]


def test_switched_off_memory_is_not_read(state: State, tmp_path: Path) -> None:
    state.stored = {"布洛芬": REMEMBERED}

    assert KnownTerms(state, Settings(home=tmp_path, memory_count=0)).update("medical").terms == {}
