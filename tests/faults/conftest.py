"""One rig for all faults, and the table that they end with."""

import time
from collections.abc import Iterator

import pytest
from rig import Rig

_rows: list[tuple[str, float, int, int, int]] = []


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The processes, once."""
    started = Rig(tmp_path_factory.mktemp("faults"))
    yield started
    started.close()


@pytest.fixture
def rig(running: Rig, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The rig, with what the client has seen counted from here."""
    client = running.client
    client.failed.clear()
    client.answered = client.passed_over = 0
    started = time.monotonic()
    yield running
    name = request.node.name.removeprefix("test_").replace("_", " ")
    _rows.append((name, time.monotonic() - started, client.answered, client.passed_over, len(client.failed)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of docs/reliability.md."""
    if _rows:
        terminalreporter.section("faults")
        terminalreporter.line("| fault | seconds | answered | by the other replica | failed |\n|---|--:|--:|--:|--:|")
        for name, seconds, *counts in _rows:
            terminalreporter.line(f"| {name} | {seconds:.0f} | {' | '.join(map(str, counts))} |")
