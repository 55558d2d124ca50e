"""Starts the web app: `python -m ml_backend`."""

import uvicorn

from nerloop.settings import Settings

KEEP_ALIVE_SECONDS = 75  # longer than any client keeps an idle connection, or a request meets one just closed


def main() -> None:
    """Serve until told to stop."""
    settings = Settings.load_or_exit()
    uvicorn.run(
        "ml_backend.app:app",
        host=settings.backend_host,
        port=settings.backend_port,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        access_log=False,
    )


if __name__ == "__main__":
    main()
