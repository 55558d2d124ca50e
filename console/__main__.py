"""`python -m console`: serves the web page."""

import sys

import uvicorn

from console.app import make_app
from nerloop.errors import NerLoopError
from nerloop.logs import set_up_logs
from nerloop.settings import Settings


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    try:
        settings = Settings.load()
    except NerLoopError as error:
        print(f"nerloop: {error}", file=sys.stderr)
        return 1
    set_up_logs()
    uvicorn.run(make_app(settings), host=settings.console_host, port=settings.console_port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
