"""A disk that takes no more: the message names the fix, and what was there stays. Played by a limit on file sizes."""

import json
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open

from nerloop.training_state import FILE

LIMITED = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from nerloop.errors import BadInput
folder = Path(sys.argv[1])
try:
"""


def refused(folder: Path, statements: str) -> str:
    """Run statements under the limit, in a process of their own, and return the message they end with."""
    body = "".join(f"    {line}\n" for line in statements.splitlines())
    script = f"{LIMITED}{body}except BadInput as error:\n    print(error)"
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout


def test_an_export_leaves_the_old_file_and_names_the_fix(tmp_path: Path) -> None:
    (tmp_path / "medical.jsonl").write_text("old")

    message = refused(
        tmp_path,
        "from nerloop.documents import Document, write_jsonl\n"
        "write_jsonl(folder / 'medical.jsonl', (Document('', '张三' * 50) for _ in range(1000)))",
    )

    assert "free space" in message
    assert [path.name for path in tmp_path.iterdir()] == ["medical.jsonl"]
    assert (tmp_path / "medical.jsonl").read_text() == "old"


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    message = refused(
        tmp_path,
        "from nerloop import checkpoint\n"
        "from nerloop.starter import starter\n"
        "checkpoint.save(starter(), checkpoint.Provenance('lac', ''), folder / 'medical-v1')",
    )

    assert "free disk space" in message
    assert list(tmp_path.iterdir()) == []


OUTAGES = """
import logging, resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from nerloop.demo import DEMO_FOLDER
from nerloop.documents import labels_of, read_jsonl
from nerloop.encoder import GruEncoder
from nerloop.tagger import Tagger
from nerloop.tagging import Decoder
from nerloop.tokenizer import CharacterVocabulary
from nerloop.trainer import Recipe, Trainer
logging.basicConfig(format="warning: %(message)s", stream=sys.stdout)
documents = read_jsonl(DEMO_FOLDER / "train.jsonl")[:32]
tagger = Tagger(GruEncoder(CharacterVocabulary({"OOV": 0}), 1, 8, 8), Decoder.flat(labels_of(documents)))
FULL = {2, 3, 4, 7, 8}  # epochs
def follow(progress):
    limit = 2_000 if progress.epoch in FULL else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
fit = Trainer(Recipe(epochs=9, batch_size=8), follow, Path(sys.argv[1])).fit(tagger, documents, [])
print(len(fit.epochs), "epochs")
"""


def test_a_fine_tune_that_cannot_save_how_far_it_is_ends_well_and_warns_once_an_outage(tmp_path: Path) -> None:
    state = tmp_path / "state"

    command = [sys.executable, "-c", OUTAGES, str(state)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)

    *warnings, last = ended.stdout.splitlines()
    assert last == "9 epochs"
    assert len(warnings) == 2  # of five epochs whose end could not be saved
    assert all(said.startswith(f"warning: Cannot save in {state} how far") for said in warnings)
    assert [path.name for path in state.iterdir()] == [FILE]  # nothing half-written
    with safe_open(state / FILE, framework="pt") as file:
        assert len(json.loads(file.metadata()["nerloop"])["epochs"]) == 9  # it saved again when there was space
