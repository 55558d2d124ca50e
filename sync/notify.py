"""Tells people what became of a model: one POST to a webhook of theirs, as JSON or as a chat robot wants it.

Owns the bodies and the tries. The address holds the robot's key and is never logged. A library such as apprise knows
more services, but takes the robots' "200 OK, error 19001" for success, and a message would be lost in silence.
"""

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import httpx

from nerloop.errors import NerLoopError
from nerloop.settings import Settings

logger = logging.getLogger(__name__)

Kind = Literal["promoted", "rejected", "failed", "rolled_back", "test"]
CHINESE: dict[Kind, str] = {
    "promoted": "已上线",
    "rejected": "未通过评估",
    "failed": "训练失败",
    "rolled_back": "已回滚",
    "test": "测试消息",
}
WAITS = (1, 4)  # seconds between tries
TIMEOUT_SECONDS = 5
LONGEST_TEXT = 1500  # characters; WeCom takes 2,048 bytes of text, and a sentence is mostly ASCII


class NotifyError(NerLoopError):
    """The webhook did not take a message."""


@dataclass(frozen=True)
class Event:
    """What happened to a model; `version` is empty where there is none, `reason` is the sentence people read."""

    kind: Kind
    model: str
    version: str
    reason: str

    @property
    def text(self) -> str:
        """The message, in both languages."""
        what = f"{self.kind.replace('_', ' ')} {CHINESE[self.kind]}"
        return f"[nerloop] {self.version or self.model}: {what}\n{self.reason}"[:LONGEST_TEXT]


def notify(settings: Settings, event: Event) -> None:
    """Send an event where NERLOOP_NOTIFY_URL says; what cannot be sent is logged, and nothing is ever raised."""
    if not settings.notify_url:
        return
    try:
        send(settings, event)
    except NotifyError as error:
        logger.warning("Could not tell that %s %s: %s", event.version or event.model, event.kind, error)


def send(settings: Settings, event: Event) -> None:
    """Send an event in a few tries; raises `NotifyError` with what the webhook answered to the last."""
    body, query = BODIES[settings.notify_format](event, settings.notify_secret)
    for wait in (*WAITS, None):
        try:
            return _post(settings.notify_url, body, query)
        except NotifyError:
            if wait is None:
                raise
            time.sleep(wait)
    return None


def _post(url: str, body: dict[str, Any], query: dict[str, str]) -> None:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        raise NotifyError("NERLOOP_NOTIFY_URL is no address; copy it again") from None
    try:
        answer = httpx.post(address.copy_merge_params(query), json=body, timeout=TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        raise NotifyError(f"{address.host} does not answer ({type(error).__name__}); see NERLOOP_NOTIFY_URL") from None
    if answer.status_code >= 300:
        raise NotifyError(f"{address.host} answered {answer.status_code}; see NERLOOP_NOTIFY_URL")
    if not body.keys() & {"msgtype", "msg_type"}:
        return  # a receiver of plain JSON may answer what it likes
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise NotifyError(f"{address.host} does not answer as a robot does; see NERLOOP_NOTIFY_URL and _FORMAT")
    if any(said.get(key) for key in ("errcode", "code", "StatusCode")):  # they say 200 whatever they think
        raise NotifyError(f"{address.host} refused the message: {said}; see NERLOOP_NOTIFY_FORMAT and _SECRET")


def _json(event: Event, _secret: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return our own body: `{"event", "model", "version", "reason", "text"}`."""
    fields = asdict(event)
    return {"event": fields.pop("kind"), **fields, "text": event.text}, {}


def _feishu(event: Event, secret: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the body of a Feishu custom bot; with a secret it is signed as its guide says (key: time and secret)."""
    body: dict[str, Any] = {"msg_type": "text", "content": {"text": event.text}}
    if secret:
        now = str(int(time.time()))
        body |= {"timestamp": now, "sign": _signed(f"{now}\n{secret}", "")}
    return body, {}


def _dingtalk(event: Event, secret: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the body of a DingTalk custom robot; with a secret the address is signed as its guide says."""
    body = {"msgtype": "text", "text": {"content": event.text}}
    if not secret:
        return body, {}
    now = str(int(time.time() * 1000))
    return body, {"timestamp": now, "sign": _signed(secret, f"{now}\n{secret}")}


def _wecom(event: Event, _secret: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the body of a WeCom group robot, whose key is in its address."""
    return {"msgtype": "text", "text": {"content": event.text}}, {}


def _signed(key: str, message: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), message.encode(), hashlib.sha256).digest()).decode()


BODIES: dict[str, Callable[[Event, str], tuple[dict[str, Any], dict[str, str]]]] = {
    "json": _json,
    "feishu": _feishu,
    "dingtalk": _dingtalk,
    "wecom": _wecom,
}
