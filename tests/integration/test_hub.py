"""Fetching and publishing with ModelScope's real client. The hub itself is replaced: it is outside our control."""

import base64
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from nerloop import hub
from nerloop.errors import BadInput, HubError
from nerloop.loop import Loop
from nerloop.models import find_folder
from nerloop.settings import Settings

TOKEN = "ms-0123456789abcdef"
NEWS = "iic/nlp_raner_named-entity-recognition_chinese-base-news"
FILES = {
    "configuration.json": b'{"task": "named-entity-recognition"}',
    "config.json": b'{"model_type": "bert"}',
    "vocab.txt": "[PAD]\n张\n三\n".encode(),
    "pytorch_model.bin": bytes(range(256)) * 4000,
    "sentencepiece.bpe.model": b"\x00\x01",
}
BESIDE = {
    "ms_wrapper.py": b"raise SystemExit",
    "README.md": b"# news",
    "train.jsonl": b"{}",
    "resources/examples.json": b"[]",
}


@dataclass
class Repository:
    """What the fake hub knows of one: files by revision, and what was said in commits."""

    private: bool
    revisions: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"master": {}})
    messages: list[str] = field(default_factory=list)


class FakeHub(ThreadingHTTPServer):
    """The few endpoints of modelscope.cn that the client calls, on this machine, with what it was told in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Endpoints)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.breaks_at: str = ""  # a download of this file ends half-way
        self.broke = Event()

    def add(self, repo_id: str, files: dict[str, bytes], revision: str = "master") -> None:
        self.repositories.setdefault(repo_id, Repository(private=False)).revisions[revision] = files


class Endpoints(BaseHTTPRequestHandler):
    """One request: a route is a method and a pattern of the path."""

    server: FakeHub

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {self.path}")
        if self.headers.get("Authorization", f"Bearer {TOKEN}") != f"Bearer {TOKEN}":
            given = self.headers["Authorization"].removeprefix("Bearer ")
            return self.say({"Message": f"the token {given} is unknown"}, 401)
        for method, pattern, route in ROUTES:
            match = re.fullmatch(pattern, url.path)
            if match and method == self.command:
                return route(self, **match.groupdict())
        return self.say({"Message": "no such page"}, 404)

    do_GET = do_POST = do_PUT = answer  # noqa: N815 - http.server's names

    def say(self, data: Any, status: int = 200) -> None:
        self.send(json.dumps({"Code": status, "Success": status == 200, "Data": data} | data).encode(), status)

    def send(self, content: bytes, status: int = 200, announced: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if announced is None else announced))
        self.end_headers()
        self.wfile.write(content)

    def repository(self, repo_id: str) -> Repository | None:
        """Return it if the caller may see it; else answer that there is none."""
        found = self.server.repositories.get(repo_id)
        if found is None or (found.private and "Authorization" not in self.headers):
            self.say({"Message": "模型不存在"}, 404)
            return None
        return found

    def files(self, repo_id: str) -> dict[str, bytes] | None:
        repository = self.repository(repo_id)
        if repository is None:
            return None
        if self.query["Revision"] not in repository.revisions:
            self.say({"Message": "no such revision"}, 404)
        return repository.revisions.get(self.query["Revision"])

    def show(self, repo_id: str) -> None:
        if self.repository(repo_id):
            self.say({"Name": repo_id})

    def list_files(self, repo_id: str) -> None:
        files = self.files(repo_id)
        if files is not None:
            entries = [
                {"Path": path, "Type": "blob", "Size": len(content), "Sha256": hashlib.sha256(content).hexdigest()}
                for path, content in files.items()
            ]
            self.say({"Files": entries})

    def download(self, repo_id: str) -> None:
        files = self.files(repo_id)
        if files is not None:
            path, content = self.query["FilePath"], files[self.query["FilePath"]]
            if path != self.server.breaks_at:
                return self.send(content)
            self.send(content[: len(content) // 2], announced=len(content))
            self.server.broke.set()
        return None

    def list_revisions(self, repo_id: str) -> None:
        repository = self.repository(repo_id)
        if repository:
            named = [{"Revision": name} for name in repository.revisions]
            self.say({"RevisionMap": {"Branches": named[:1], "Tags": named[1:]}})

    def create(self) -> None:
        wanted = json.loads(self.body)
        repo_id = f"{wanted['Path']}/{wanted['Name']}"
        if repo_id in self.server.repositories:
            return self.say({"Message": "already exists"}, 400)
        self.server.repositories[repo_id] = Repository(private=wanted["Visibility"] == 1)
        return self.say({"Path": wanted["Path"], "Name": wanted["Name"]})

    def ask_for_blobs(self, repo_id: str) -> None:
        self.say(
            {
                "objects": [
                    {"oid": oid, "actions": {"upload": {"href": f"{self.server.address}/blobs/{oid}"}}}
                    for oid in (wanted["oid"] for wanted in json.loads(self.body)["objects"])
                    if oid not in self.server.blobs
                ]
            }
        )

    def put_blob(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.say({"Message": "the sum differs"}, 400)
        self.server.blobs[oid] = self.body
        return self.say({})

    def commit(self, repo_id: str, revision: str) -> None:
        repository = self.server.repositories[repo_id]
        commit = json.loads(self.body)
        repository.messages.append(commit["commit_message"])
        for action in commit["actions"]:
            is_blob = action["type"] == "lfs"
            content = self.server.blobs[action["sha256"]] if is_blob else base64.b64decode(action["content"])
            repository.revisions[revision][action["path"]] = content
        self.say({})

    def tag(self, repo_id: str) -> None:
        wanted, revisions = json.loads(self.body), self.server.repositories[repo_id].revisions
        revisions[wanted["TagName"]] = dict(revisions[wanted["Ref"]])
        self.say({})

    def log_message(self, *_: Any) -> None:
        """Keep the test's output free of it."""


API, ID = "/api/v1", r"(?P<repo_id>[^/]+/[^/]+)"
ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("GET", f"(/openapi/v1|{API})/models/{ID}", Endpoints.show),
    ("GET", f"{API}/models/{ID}/repo/files", Endpoints.list_files),
    ("GET", f"{API}/models/{ID}/repo", Endpoints.download),
    ("GET", f"{API}/models/{ID}/revisions", Endpoints.list_revisions),
    ("POST", f"{API}/models", Endpoints.create),
    ("POST", f"{API}/repos/models/{ID}/info/lfs/objects/batch", Endpoints.ask_for_blobs),
    ("PUT", "/blobs/(?P<oid>[0-9a-f]+)", Endpoints.put_blob),
    ("POST", f"{API}/repos/models/{ID}/commit/(?P<revision>[^/]+)", Endpoints.commit),
    ("POST", f"{API}/models/{ID}/repo/tag", Endpoints.tag),
)


@pytest.fixture(scope="module", autouse=True)
def impatient_client() -> Iterator[None]:
    """The client gives up at once. It reads this when it is first imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELSCOPE_DOWNLOAD_MAX_RETRIES", "0")
        patch.setenv("MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS", "1")
        patch.setenv("MODELSCOPE_API_MAX_RETRIES", "1")
        import modelscope_hub.constants  # noqa: F401

        yield


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from modelscope_hub import set_default_config

    for name, value in {"MODELSCOPE_HOME": "settings", "MODELSCOPE_CACHE": "modelscope"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    set_default_config(None)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.address)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoint(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        (NEWS, f"{NEWS.replace('/', '--')}@master"),
        (f"{NEWS}@v1.0.0", f"{NEWS.replace('/', '--')}@v1.0.0"),
    ],
)
def test_an_id_says_where_its_model_is_kept(source: str, folder: str) -> None:
    found = hub.parse_id(source)

    assert found is not None
    assert found.folder == folder


@pytest.mark.parametrize(
    "source",
    [
        "lac",
        "../up",
        "a/..",
        "a/b/c",
        "/a/b",
        "./a",
        "a/b@",
        "a/b@../c",
        "a/b..c",
        "a/b c",
        "a/模型",
        "a--b/c",
        "a/b\n",
    ],
)
def test_what_could_leave_the_cache_or_be_a_path_is_no_id(source: str, cache: Path) -> None:
    assert hub.parse_id(source) is None
    with pytest.raises(BadInput, match="namespace/name"):
        hub.fetch(source, cache)
    assert not cache.exists()


def test_a_model_comes_with_what_a_checkpoint_needs_and_without_code_or_data(fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES | BESIDE)

    folder = hub.fetch(NEWS, cache)

    assert content(folder) == FILES
    assert list(cache.iterdir()) == [folder]
    assert content(Path(os.environ["MODELSCOPE_CACHE"])) == {}


def test_a_fetched_model_needs_no_network_any_more(fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES, "v1.0.0")
    first = hub.fetch(f"{NEWS}@v1.0.0", cache)
    fake.shutdown()
    fake.server_close()

    assert hub.fetch(f"{NEWS}@v1.0.0", cache) == first
    assert content(first) == FILES


def test_what_was_fetched_first_stays_when_the_branch_moves_on(fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES)
    hub.fetch(NEWS, cache)
    fake.add(NEWS, FILES | {"config.json": b"{}"})

    assert content(hub.fetch(NEWS, cache)) == FILES


def test_each_revision_is_kept_by_itself(fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES)
    fake.add(NEWS, FILES | {"config.json": b"{}"}, "v2")

    assert content(hub.fetch(f"{NEWS}@v2", cache))["config.json"] == b"{}"
    assert content(hub.fetch(NEWS, cache)) == FILES


@pytest.mark.parametrize("source", [f"{NEWS}@v9", "iic/unknown@master"])
def test_an_unknown_model_or_revision_is_named(source: str, fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES)

    with pytest.raises(HubError, match=f"cannot fetch {source}: .* is its name right"):
        hub.fetch(source, cache)

    assert list(cache.iterdir()) == []


def test_without_a_network_the_ways_out_are_named(fake: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")

    with pytest.raises(HubError) as raised:
        hub.fetch(f"{NEWS}@v1.0.0", cache)

    assert f"cannot fetch {NEWS}@v1.0.0" in str(raised.value)
    assert f"`modelscope download --model {NEWS} --revision v1.0.0 --local_dir DIR`" in str(raised.value)
    assert "start from `lac`" in str(raised.value)


def test_a_mistyped_directory_is_called_so_in_one_line(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")

    with pytest.raises(HubError) as raised:
        find_folder("models/medcal", Loop(Settings(model_dir=cache)))

    said = str(raised.value)
    assert said.startswith("models/medcal: no such directory; as a ModelScope id: cannot fetch models/medcal@master: ")
    assert "does not answer (NewConnectionError)" in said
    assert "Max retries" not in said


def test_a_download_that_breaks_leaves_nothing_and_the_next_works(fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES)
    fake.breaks_at = "pytorch_model.bin"

    with pytest.raises(HubError, match=rf"{NEWS}@master: .*pytorch_model\.bin.*or start from `lac`"):
        hub.fetch(NEWS, cache)
    assert list(cache.iterdir()) == []

    fake.breaks_at = ""
    assert content(hub.fetch(NEWS, cache)) == FILES


def test_a_killed_download_leaves_nothing_that_looks_complete(fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES)
    fake.breaks_at = "pytorch_model.bin"
    script = "import sys; from pathlib import Path; from nerloop import hub; hub.fetch(sys.argv[1], Path(sys.argv[2]))"
    patient = os.environ | {"MODELSCOPE_DOWNLOAD_MAX_RETRIES": "5"}

    with subprocess.Popen([sys.executable, "-c", script, NEWS, str(cache)], env=patient) as process:
        assert fake.broke.wait(60)
        process.kill()

    assert [path for path in cache.iterdir() if not path.name.startswith(".")] == []
    fake.breaks_at = ""
    assert content(hub.fetch(NEWS, cache)) == FILES


def test_the_same_model_may_be_fetched_twice_at_once(fake: FakeHub, cache: Path) -> None:
    fake.add(NEWS, FILES)

    with ThreadPoolExecutor() as pool:
        folders = set(pool.map(hub.fetch, [NEWS] * 3, [cache] * 3))

    assert list(cache.iterdir()) == list(folders)
    assert content(folders.pop()) == FILES


def test_a_repository_without_a_model_is_refused(fake: FakeHub, cache: Path) -> None:
    fake.add("someone/texts", BESIDE)

    with pytest.raises(HubError, match="someone/texts@master holds no model"):
        hub.fetch("someone/texts", cache)

    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_called_so(fake: FakeHub, tmp_path: Path) -> None:
    fake.add(NEWS, FILES)
    (tmp_path / "file").write_text("")

    with pytest.raises(HubError, match=rf"{NEWS}@master: .*; free disk space, check permissions or set NERLOOP_HOME"):
        hub.fetch(NEWS, tmp_path / "file" / "cache")


def test_a_published_checkpoint_comes_back_byte_for_byte(
    fake: FakeHub, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkpoint(tmp_path / "made")

    page = hub.publish(made, "clinic/medical", TOKEN, "medical-v7")

    assert page == f"{fake.address}/models/clinic/medical"
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    assert content(hub.fetch("clinic/medical@medical-v7", cache)) == FILES


def test_a_new_repository_is_private_and_its_commit_names_the_version(
    fake: FakeHub, tmp_path: Path, cache: Path
) -> None:
    hub.publish(checkpoint(tmp_path / "made"), "clinic/medical", TOKEN, "medical-v7")

    assert fake.repositories["clinic/medical"].private
    assert all("medical-v7" in message for message in fake.repositories["clinic/medical"].messages)
    with pytest.raises(HubError, match="MODELSCOPE_API_TOKEN"):
        hub.fetch("clinic/medical", cache)


def test_only_the_files_of_the_checkpoint_are_published_and_none_is_added(fake: FakeHub, tmp_path: Path) -> None:
    others = {".secret.json": b"1", "model.safetensors.tmp": b"2", "train.jsonl": b"3", "predict.py": b"4"}
    made = checkpoint(tmp_path / "made", FILES | others | {"README.md": b"# medical"})
    (made / ".git").mkdir()
    (made / ".git" / "config.json").write_text("{}")
    before = content(made)

    hub.publish(made, "clinic/medical", TOKEN, "medical-v7")

    assert fake.repositories["clinic/medical"].revisions["medical-v7"] == FILES | {"README.md": b"# medical"}
    assert content(made) == before


def test_publishing_leaves_standard_output_to_the_caller(
    fake: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.publish(checkpoint(tmp_path / "made"), "clinic/medical", TOKEN, "medical-v7")

    assert capsys.readouterr().out == ""


def test_a_second_version_joins_the_first(fake: FakeHub, tmp_path: Path) -> None:
    second = FILES | {"pytorch_model.bin": b"better"}
    hub.publish(checkpoint(tmp_path / "v1"), "clinic/medical", TOKEN, "medical-v1")
    hub.publish(checkpoint(tmp_path / "v2", second), "clinic/medical", TOKEN, "medical-v2")

    assert fake.repositories["clinic/medical"].revisions == {
        "master": second,
        "medical-v1": FILES,
        "medical-v2": second,
    }


def test_a_published_version_is_never_replaced(fake: FakeHub, tmp_path: Path) -> None:
    hub.publish(checkpoint(tmp_path / "v1"), "clinic/medical", TOKEN, "medical-v1")

    with pytest.raises(HubError, match="clinic/medical has a version medical-v1 already"):
        hub.publish(checkpoint(tmp_path / "v2", {"config.json": b"{}"}), "clinic/medical", TOKEN, "medical-v1")

    assert fake.repositories["clinic/medical"].revisions["master"] == FILES


def test_publishing_without_a_token_names_the_variable_and_asks_nothing(fake: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="set MODELSCOPE_API_TOKEN"):
        hub.publish(checkpoint(tmp_path / "made"), "clinic/medical", "", "medical-v7")

    assert fake.requests == []


@pytest.mark.parametrize("token", ["ms-wrong", "ms-wrong\n", "ms-密码"])
def test_a_refused_token_is_never_shown(
    token: str,
    fake: FakeHub,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("modelscope_hub"), "propagate", True)  # so that `caplog` sees it

    with caplog.at_level(logging.DEBUG), pytest.raises(HubError, match="MODELSCOPE_API_TOKEN") as raised:
        hub.publish(checkpoint(tmp_path / "made"), "clinic/medical", token, "medical-v7")

    seen = [str(raised.value), caplog.text, *capfd.readouterr(), *fake.requests]
    assert not any(token.strip() in text for text in seen)
    assert fake.repositories == {}


@pytest.mark.parametrize("repo_id", ["medical", "clinic/medical@v1", "clinic/../medical"])
def test_a_malformed_name_of_a_repository_is_refused(repo_id: str, fake: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="namespace/name"):
        hub.publish(checkpoint(tmp_path / "made"), repo_id, TOKEN, "medical-v7")

    assert fake.requests == []


def test_a_folder_without_a_checkpoint_is_not_published(fake: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no checkpoint"):
        hub.publish(checkpoint(tmp_path / "made", {"train.jsonl": b"{}"}), "clinic/medical", TOKEN, "medical-v7")

    assert fake.requests == []
