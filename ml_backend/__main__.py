"""Starts the web app: `python -m ml_backend`."""

import uvicorn

from nerloop.settings import Settings


def main() -> None:
    """Serve until told to stop."""
    settings = Settings.load_or_exit()
    uvicorn.run("ml_backend.app:app", host=settings.backend_host, port=settings.backend_port, access_log=False)


if __name__ == "__main__":
    main()
