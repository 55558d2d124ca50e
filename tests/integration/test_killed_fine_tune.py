"""A fine-tune that is killed with SIGKILL, in a process of its own, goes on from where it last saved."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import torch

from nerloop.documents import Document, Entity
from nerloop.encoder import GruEncoder
from nerloop.tagger import Tagger, weights_key
from nerloop.tagging import Decoder
from nerloop.tokenizer import CharacterVocabulary
from nerloop.trainer import Progress, Recipe, Trainer
from nerloop.training_state import FILE

RECIPE = Recipe(epochs=60, batch_size=8)
STEPS = 60 * 6
CHILD = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("parent", sys.argv[1])
parent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parent)
parent.Trainer(parent.RECIPE, lambda progress: print(progress.step, flush=True), Path(sys.argv[2])).fit(
    parent.untrained(), parent.documents(), []
)
"""


def documents() -> list[Document]:
    """Texts of zeros and ones in which each `ab` is a person."""
    rng = random.Random(1)
    befores = ["".join(rng.choices("01", k=rng.randint(0, 9))) for _ in range(48)]
    return [Document("", f"{text}ab", (Entity(len(text), len(text) + 2, "PER"),)) for text in befores]


def untrained() -> Tagger:
    """The same small tagger each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        vocabulary = CharacterVocabulary({"OOV": 0, "0": 1, "1": 2, "a": 3, "b": 4})
        return Tagger(GruEncoder(vocabulary, 5, 8, 16), Decoder.flat(["PER"]))


def kill_at(step: int, folder: Path) -> None:
    """Start a fine-tune and kill it as soon as it says that it has taken a step; it is wherever it is by then."""
    command = [sys.executable, "-c", CHILD, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= step:
                break
        child.kill()
    assert child.returncode == -signal.SIGKILL


def test_a_fine_tune_that_is_killed_twice_ends_with_the_model_it_would_have_ended_with(tmp_path: Path) -> None:
    whole, tagger = untrained(), untrained()
    expected = Trainer(RECIPE).fit(whole, documents(), [])

    kill_at(20, tmp_path)
    kill_at(100, tmp_path)
    heard: list[Progress] = []
    fit = Trainer(RECIPE, heard.append, tmp_path).fit(tagger, documents(), [])

    assert heard[0].step > 90  # at the latest, the end of an epoch of six steps was saved
    assert [progress.step for progress in heard] == list(range(heard[0].step, STEPS + 1))
    assert (fit, weights_key(tagger)) == (expected, weights_key(whole))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # nothing half-written of those that were killed
