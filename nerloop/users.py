"""Who may use the console and the API: a file of names, roles and hashed tokens. Owns that file.

The open-source edition of Label Studio knows no roles, so that only this file can say who is an operator.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock

from nerloop.errors import BadInput, SettingsError
from nerloop.private_file import write_private

Role = Literal["viewer", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)
TOKEN_PREFIX = "nerloop_"  # noqa: S105 -- by which scanners of repositories can tell what leaked


@dataclass(frozen=True)
class User:
    """A name, what it may do, and the SHA-256 of its token, which is long and random: a fast hash hides it well enough.

    A viewer reads and predicts; an operator also trains and decides what serves.
    """

    name: str
    role: Role
    token_hash: str

    def is_named(self, name: str) -> bool:
        """Tell whether this is the user's name; capital letters make no other, nor do they in Label Studio's addresses.

        Folding more than Label Studio does would give one of its accounts the role of another.
        """
        return self.name.lower() == name.lower()


class Users:
    """The users of one file, which is read anew at each call: a change counts at once, in every process."""

    def __init__(self, file: Path) -> None:
        """`file` need not exist: then there are no users."""
        self._file = file

    def all(self) -> list[User]:
        """Return all users by name; raises `SettingsError` on a file that somebody has damaged."""
        try:
            users = [User(**row) for row in json.loads(self._file.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"{self._file} cannot be read ({error}); mend it, or remove it and add the users again"
            ) from None
        if wrong := [user.name for user in users if user.role not in ROLES]:
            raise SettingsError(f"{self._file}: the role of user {wrong[0]!r} must be one of {', '.join(ROLES)}")
        return sorted(users, key=lambda user: user.name)

    def with_token(self, token: str) -> User | None:
        """Return the user whose token this is, or None."""
        asked = _hash(token)
        return next((user for user in self.all() if secrets.compare_digest(user.token_hash, asked)), None)

    def named(self, name: str) -> User | None:
        """Return the user of that name, or None."""
        return next((user for user in self.all() if user.is_named(name)), None)

    def add(self, name: str, role: Role) -> str:
        """Add a user, or change one's role and token; return the token, which is kept nowhere.

        Raises `BadInput` on an empty name, or where the file cannot be written.
        """
        if not name or name != name.strip():
            raise BadInput(f"name {name!r}: give one without white space around it")
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._change(lambda users: [*(u for u in users if not u.is_named(name)), User(name, role, _hash(token))])
        return token

    def remove(self, name: str) -> None:
        """Remove a user; raises `BadInput` where there is none of that name."""

        def without(users: list[User]) -> list[User]:
            others = [user for user in users if not user.is_named(name)]
            if others == users:
                raise BadInput(f"there is no user {name!r}; see `nerloop user list`")
            return others

        self._change(without)

    def _change(self, change: Callable[[list[User]], list[User]]) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # as write_private does; the lock is first
            with FileLock(f"{self._file}.lock"):
                rows = [asdict(user) for user in change(self.all())]
                write_private(self._file, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
        except OSError as error:
            raise BadInput(f"cannot write {self._file}: {error.strerror}") from error


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
