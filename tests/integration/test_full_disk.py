"""A disk that takes no more: the message names the fix, and what was there stays. Played by a limit on file sizes."""

import subprocess
import sys
from pathlib import Path

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
