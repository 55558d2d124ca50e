"""Logging in, for people in a browser: a password or a token once, then a signed session. Owns sessions.

Nothing is kept: a session is what its holder shows, with our signature and its age, so that every replica knows it.
"""

from itsdangerous import BadData, URLSafeTimedSerializer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from ml_backend.problems import TooManyRequests, Unauthorized
from nerloop.errors import SettingsError
from nerloop.label_studio_account import is_account
from nerloop.settings import Settings
from nerloop.users import TOKEN_PREFIX, User, Users

SESSION_SECONDS = 12 * 3600
TRIES_OF_ONE_NAME = RateLimitItemPerMinute(5, 5)  # in five minutes
TRIES_OF_ALL = RateLimitItemPerMinute(100)
WRONG = "this name and password are neither a Label Studio account nor a user with that token"

_limiter = MovingWindowRateLimiter(MemoryStorage())


def log_in(settings: Settings, name: str, password: str) -> str:
    """Return a session for a user of ours with the token, or for an account of Label Studio's with its password.

    Raises `Unauthorized` on a wrong one, `TooManyRequests` after too many of them, `SettingsError` where sessions
    cannot be signed, and what Label Studio raises.
    """
    serializer = _serializer(settings)
    name = name.strip()
    # All tries first: they bound how many names are remembered.
    if not (_limiter.hit(TRIES_OF_ALL) and _limiter.hit(TRIES_OF_ONE_NAME, name.casefold())):
        raise TooManyRequests("too many tries; wait some minutes")
    users = Users(settings.users_file)
    user = users.with_token(password) if password.startswith(TOKEN_PREFIX) else None
    if user is not None and user.is_named(name):
        session = serializer.dumps([user.name, user.token_hash])
    elif user is None and is_account(settings.label_studio_url, name, password):
        session = serializer.dumps([name, ""])
    else:
        raise Unauthorized(WRONG)
    _limiter.clear(TRIES_OF_ONE_NAME, name.casefold())
    return str(session)


def user_of(settings: Settings, session: str) -> User | None:
    """Return whose session this is; None where it is not ours, too old, or of a token that is worth nothing any more.

    What an account of Label Studio's may do stands in the file of users, under its e-mail address; else it is a viewer.
    """
    if not settings.session_secret:
        return None
    try:
        name, token_hash = _serializer(settings).loads(session, max_age=SESSION_SECONDS)
    except BadData:
        return None
    users = Users(settings.users_file)
    if token_hash:
        return next((user for user in users.all() if (user.name, user.token_hash) == (name, token_hash)), None)
    known = users.named(name)
    return User(name, known.role if known else "viewer", "")


def _serializer(settings: Settings) -> URLSafeTimedSerializer:
    if not settings.session_secret:
        raise SettingsError(
            "nobody can log in: set NERLOOP_SESSION_SECRET for the ML backend, to the same long random text on every "
            "replica (`openssl rand -hex 20` makes one)"
        )
    return URLSafeTimedSerializer(settings.session_secret, salt="nerloop session")
