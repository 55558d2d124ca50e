"""`python -m console`: serves the web page."""

from nicegui import ui

from console.app import add_routes
from nerloop.logs import set_up_logs
from nerloop.settings import Settings


def main() -> None:
    """Serve until the process is stopped."""
    settings = Settings.load()
    set_up_logs()
    add_routes(settings)
    ui.run(
        host=settings.console_host,
        port=settings.console_port,
        title="nerloop",
        favicon="🔁",
        reload=False,
        show=False,
        show_welcome_message=False,
        tailwind=False,
    )


if __name__ in {"__main__", "__mp_main__"}:
    main()
