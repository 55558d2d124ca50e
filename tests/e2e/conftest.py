"""What the end-to-end tests share beside the stack."""

from collections.abc import Iterator

import pytest

from nerloop.embedded.sandbox import Sandbox


@pytest.fixture(scope="module", autouse=True)
def _disconnected_at_the_end(stack: Sandbox) -> Iterator[None]:
    """Leave no project behind that each reconcile asks about, which slows the tests that follow."""
    yield
    stack.disconnect()
