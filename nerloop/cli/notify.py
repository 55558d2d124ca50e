"""`nerloop notify`: whether messages arrive where they should."""

import click
from rich.console import Console

from nerloop.cli.console import done
from nerloop.errors import BadInput
from nerloop.settings import Settings


@click.command()
def notify() -> None:
    """Send a test message to NERLOOP_NOTIFY_URL, which is told of promotions, refusals, failures and rollbacks.

    \b
    NERLOOP_NOTIFY_URL=https://open.feishu.cn/open-apis/bot/v2/hook/… NERLOOP_NOTIFY_FORMAT=feishu nerloop notify
    """
    from sync.notify import Event, send  # its HTTP client takes a moment

    settings = Settings.load()
    if not settings.notify_url:
        raise BadInput("NERLOOP_NOTIFY_URL is not set; put the webhook's address there (docs/settings.md)")
    send(settings, Event("test", "nerloop", "", "Messages of the loop arrive here. 闭环的消息会发到这里。"))
    done(Console(stderr=True), "Sent")
