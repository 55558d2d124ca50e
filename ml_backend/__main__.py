"""Starts the web app: `python -m ml_backend`."""

import sys

import uvicorn

from nerloop.errors import NerLoopError
from nerloop.settings import Settings


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    try:
        settings = Settings.load()
    except NerLoopError as error:
        print(f"nerloop: {error}", file=sys.stderr)
        return 1
    uvicorn.run("ml_backend.app:app", host=settings.backend_host, port=settings.backend_port, access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
