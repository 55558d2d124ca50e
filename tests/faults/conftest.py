"""One rig for all faults, and the table that they end with."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import Rig

ROW = "row of the table of faults"


@pytest.fixture(scope="session")
def running(migrated_home: Path) -> Iterator[Rig]:
    """The processes, once."""
    started = Rig(migrated_home)
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
    running.disconnect()
    name = request.node.name.removeprefix("test_").replace("_", " ")
    counts = (client.answered, client.passed_over, len(client.failed))
    row = " | ".join([name, f"{time.monotonic() - started:.0f}", *map(str, counts)])
    request.node.user_properties.append((ROW, row))  # which reaches whoever prints, also from another process


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of docs/reliability.md."""
    ended = [*terminalreporter.getreports(""), *terminalreporter.getreports("error")]  # "": a teardown that went well
    rows = [text for one in ended if one.when == "teardown" for key, text in one.user_properties if key == ROW]
    if rows:
        terminalreporter.section("faults")
        terminalreporter.line("| fault | seconds | answered | by the other replica | failed |\n|---|--:|--:|--:|--:|")
        for row in rows:
            terminalreporter.line(f"| {row} |")
