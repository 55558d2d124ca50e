"""ModelScope's hub, the only door to its client: fetch a model once, publish a checkpoint.

Owns what an id looks like and where a fetched model lies. Which model is the base, and what its files mean, is decided
elsewhere. The endpoint is ModelScope's own setting, `MODELSCOPE_ENDPOINT`.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from nerloop.cache import fill
from nerloop.errors import BadInput, HubError

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "MODELSCOPE_API_TOKEN"  # noqa: S105 - the name of a variable
DEFAULT_REVISION = "master"
# What a checkpoint is made of: ours, RaNER's, XLM-R's. Never code, and never a data set that lies beside it.
CHECKPOINT_FILES = ("*.safetensors", "pytorch_model.bin", "*.json", "vocab.txt", "*.model")
PUBLISHED_FILES = (*CHECKPOINT_FILES, "README.md", "LICENSE")

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_ID = re.compile(rf"({_WORD})/({_WORD})(?:@({_WORD}))?")


@dataclass(frozen=True)
class HubId:
    """A model repository of the hub at one revision: a tag, a branch or a commit."""

    namespace: str
    name: str
    revision: str = DEFAULT_REVISION

    @property
    def repository(self) -> str:
        """The id without the revision, as the hub's client takes it."""
        return f"{self.namespace}/{self.name}"

    @property
    def folder(self) -> str:
        """The name of the folder it is kept in."""
        return f"{self.namespace}--{self.name}@{self.revision}"

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def parse_id(source: str) -> HubId | None:
    """Read `namespace/name` or `namespace/name@revision`; None where it is no id.

    A relative path may look like an id: ask first whether there is such a directory.
    """
    match = _ID.fullmatch(source)
    # `--` separates namespace and name in the name of the folder, which two ids must never share.
    if match is None or ".." in source or "--" in match[1]:
        return None
    return HubId(match[1], match[2], match[3] or DEFAULT_REVISION)


def fetch(source: str, cache: Path) -> Path:
    """Return the folder of a model, downloaded into `cache` the first time; then nothing is asked of any network.

    A private model needs the token in `MODELSCOPE_API_TOKEN`. Without `@revision` the hub's `master` is taken, and what
    was fetched first stays. Raises `BadInput` where `source` is no id, `HubError` where the download fails; the cache
    then holds nothing of it.
    """
    wanted = parse_id(source)
    if wanted is None:
        raise BadInput(f"{source!r} is no ModelScope id; write namespace/name or namespace/name@revision")
    folder = cache / wanted.folder
    if folder.is_dir():
        return folder
    if "@" not in source:
        logger.warning("%s may be another model tomorrow; write %s@REVISION to pin it", wanted, wanted.repository)
    instead = (
        f"where ModelScope cannot be reached, run `modelscope download --model {wanted.repository} "
        f"--revision {wanted.revision} --local_dir DIR` elsewhere and give the path of DIR, or start from `lac`"
    )
    endpoint, token = _endpoint_and_token()
    with _errors(f"cannot fetch {wanted}", instead, token):
        return fill(folder, lambda temporary: _download(wanted, endpoint, token, temporary))


def publish(folder: Path, repo_id: str, token: str, version: str) -> str:
    """Upload a checkpoint, tag it with its version and return the address of its page.

    A repository that is missing is made, private. Files of it that the checkpoint does not have stay. A version that is
    there already is never replaced. Raises `BadInput` where the id is malformed or the folder holds no checkpoint,
    `HubError` where the hub cannot be reached or refuses.
    """
    repository = parse_id(repo_id)
    if repository is None or "@" in repo_id:
        raise BadInput(f"{repo_id!r} is no name of a ModelScope repository; write namespace/name")
    files = _files_to_publish(folder)
    if not token:
        raise HubError(
            f"cannot publish {repo_id}: set {TOKEN_VARIABLE}; modelscope.cn/my/myaccesstoken shows the token"
        )
    _check_token(token)
    with _errors(f"cannot publish {version} as {repo_id}", "is ModelScope reachable? run it again", token):
        return _upload(folder, files, repo_id, token, version)


def _download(wanted: HubId, endpoint: str, token: str, temporary: Path) -> Path:
    """Download into a folder of `temporary`, beside the client's own cache and locks."""
    from modelscope import snapshot_download

    snapshot_download(
        wanted.repository,
        wanted.revision,
        endpoint=endpoint,  # named, since the client else looks for the same id on ModelScope's other site too
        token=token,
        local_dir=str(temporary / "model"),
        cache_dir=str(temporary / "cache"),
        allow_patterns=list(CHECKPOINT_FILES),
        ignore_patterns=["*/*"],  # a checkpoint lies at the top
    )
    if not any((temporary / "model").iterdir()):
        raise HubError(f"{wanted} holds no model: none of {', '.join(CHECKPOINT_FILES)}")
    return temporary / "model"


def _upload(folder: Path, files: list[str], repo_id: str, token: str, version: str) -> str:
    from modelscope_hub import HubApi

    endpoint, _ = _endpoint_and_token()
    api = HubApi(endpoint=endpoint, token=token)
    if not api.repo_exists(repo_id, "model"):
        api.create_repo(repo_id, "model", visibility="private")
    elif any(revision.get("Revision") == version for revision in api.list_repo_revisions(repo_id, "model")):
        raise HubError(f"{repo_id} has a version {version} already; publish under another name")
    with contextlib.redirect_stdout(sys.stderr):  # it prints a report
        api.upload_folder(
            repo_id,
            "model",
            folder,
            commit_message=version,
            allow_patterns=files,
            use_cache=False,  # which would write into the folder
        )
    api.create_repo_tag(repo_id, "model", version)
    return f"{endpoint}/models/{repo_id}"


def _files_to_publish(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    files = [name for name in names if name[0] != "." and any(fnmatch(name, pattern) for pattern in PUBLISHED_FILES)]
    if not files:
        raise BadInput(f"{folder} holds no checkpoint to publish: none of {', '.join(CHECKPOINT_FILES)}")
    return files


def _endpoint_and_token() -> tuple[str, str]:
    """Read what the client reads, now: its own default is read once for the life of the process."""
    from modelscope_hub import HubConfig

    logging.getLogger("modelscope_hub").setLevel(logging.ERROR)  # it warns of each try; the last is our error
    config = HubConfig()
    token = config.token or ""
    _check_token(token)
    return HubConfig.normalize_endpoint(config.endpoint), token


def _check_token(token: str) -> None:
    """Refuse what no header can carry, since the client's complaint of it would show the token."""
    if not re.fullmatch(r"[!-~]*", token):
        raise HubError(f"{TOKEN_VARIABLE}: holds characters that no token has; copy it again")


@contextlib.contextmanager
def _errors(doing: str, way_out: str, token: str) -> Iterator[None]:
    """Turn what the client raises into `HubError` with the fix."""
    from modelscope_hub import errors as client

    try:
        yield
    except (client.HubError, OSError) as error:  # what `requests` raises is an OSError
        # `snapshot_download` wraps some of the client's errors once more.
        cause = error.__cause__ if isinstance(error.__cause__, client.HubError) else error
        message = f"{doing}: {_reason(cause, way_out)}"
        # The chain is cut and the token replaced: the answer of a server may hold it.
        raise HubError(message.replace(token, "***") if token else message) from None


def _reason(error: Exception, way_out: str) -> str:
    from modelscope_hub import errors as client

    failed = error.failed_files if isinstance(error, client.FileDownloadError) else {}
    for cause in (error, *failed.values()):
        if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ConnectionError):
            return f"{cause}; free disk space, check permissions or set NERLOOP_HOME to another place"
    if isinstance(error, client.NetworkError):
        kind = re.search(r"Caused by (\w+)", str(error))  # at the end of what urllib3 says, which is a paragraph
        return f"ModelScope does not answer ({kind[1] if kind else type(error).__name__}); {way_out}"
    said = " ".join(line.strip() for line in str(error).splitlines()[: 2 if failed else 1])  # then, the server's answer
    if isinstance(error, client.NotExistError):
        return f"{said}; is its name right, and may the token in {TOKEN_VARIABLE} see it?"
    if isinstance(error, (client.AuthenticationError, client.PermissionDeniedError)):
        return f"{said}; does {TOKEN_VARIABLE} hold a token that may do this?"
    return f"{said}; {way_out}"
