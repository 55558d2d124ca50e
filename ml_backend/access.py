"""Who is asking the REST API, and whether they may. Owns that; names and tokens are nerloop/users.py's."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ml_backend.model import services
from ml_backend.problems import Forbidden, Unauthorized
from nerloop.users import User, Users

_bearer = HTTPBearer(auto_error=False, description="A token that `nerloop user add` has printed")


def viewer(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> User:
    """Return the user whose token the request carries; raises `Unauthorized`."""
    user = Users(services().settings.users_file).with_token(credentials.credentials) if credentials else None
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


Viewer = Annotated[User, Depends(viewer)]
Operator = Annotated[User, Depends(operator)]
