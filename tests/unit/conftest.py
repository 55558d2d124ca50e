import string
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import torch

from nerloop.encoder import GruEncoder
from nerloop.starter import starter
from nerloop.tagger import Tagger
from nerloop.tagging import TagSet

# The same examples in every run and on every machine, and none of them stored.
hypothesis.settings.register_profile("unit", derandomize=True, database=None, deadline=None, max_examples=60)
hypothesis.settings.load_profile("unit")

ROWS = 50


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # models this small only wait for each other's threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lac() -> Tagger:
    return starter()


@pytest.fixture(scope="session")
def tiny_tagger() -> Callable[..., Tagger]:
    """Builds an untrained tagger that knows digits and letters; the weights of seed 2 find entities everywhere."""

    def build(labels: tuple[str, ...] = ("LOC", "PER"), seed: int = 2, hidden_size: int = 8) -> Tagger:
        characters = (string.digits + string.ascii_letters)[: ROWS - 1]
        vocabulary = {"OOV": 0} | {character: row for row, character in enumerate(characters, start=1)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Tagger(GruEncoder(vocabulary, ROWS, 8, hidden_size), TagSet.bioes(labels)).eval()

    return build
