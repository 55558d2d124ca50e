"""`python -m console`: serves the web page."""

import uvicorn

from console.app import make_app
from nerloop.logs import set_up_logs
from nerloop.settings import Settings


def main() -> None:
    """Serve until told to stop."""
    settings = Settings.load_or_exit()
    set_up_logs()
    uvicorn.run(make_app(settings), host=settings.console_host, port=settings.console_port, log_level="warning")


if __name__ == "__main__":
    main()
