"""Who is asking the REST API, and whether they may. Owns that; names and tokens are nerloop/users.py's."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ml_backend.model import services
from ml_backend.problems import Forbidden, Unauthorized
from ml_backend.sessions import user_of
from nerloop.users import TOKEN_PREFIX, User, Users

_bearer = HTTPBearer(auto_error=False, description="A token that `nerloop user add` has printed, or a session")


def viewer(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> User:
    """Return the user whose token or session the request carries; raises `Unauthorized`."""
    user = _user(credentials.credentials) if credentials else None
    if user is None:
        raise Unauthorized(
            "send the header 'Authorization: Bearer TOKEN' with a token that `nerloop user add NAME` has printed"
        )
    return user


def operator(user: Annotated[User, Depends(viewer)]) -> User:
    """Return the user who asks where that is an operator; raises `Unauthorized` or `Forbidden`."""
    if user.role != "operator":
        raise Forbidden(f"{user.name} is a viewer; only an operator may do this")
    return user


def _user(shown: str) -> User | None:
    settings = services().settings
    if shown.startswith(TOKEN_PREFIX):
        return Users(settings.users_file).with_token(shown)
    return user_of(settings, shown)


Viewer = Annotated[User, Depends(viewer)]
Operator = Annotated[User, Depends(operator)]
