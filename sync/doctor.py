"""Checks every link of the loop, both ways, and names the fix for what is wrong. Changes nothing."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from nerloop.errors import BadInput, NerLoopError
from nerloop.gazetteer import read_gazetteer
from nerloop.jobs import PREDICT_QUEUE, TRAIN_QUEUE, redis_errors
from nerloop.known_terms import gazetteer_path
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.settings import Settings
from nerloop.status import dropped_entities
from nerloop.tasks import Project
from sync.connect import EVENTS, SECRET_HEADER, bindings, webhook_url

TESTED_LABEL_STUDIO = "1.23.2"
FREE_BYTES = 1_000_000_000
LEGACY_TOKEN = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Check:
    """One link: `ok`, what was seen, and what to do when it is not ok."""

    name: str
    ok: bool
    seen: str
    fix: str = ""


def examine(loop: Loop) -> Iterator[Check]:
    """Yield the checks as they are made; a link that cannot even be asked is a failed check, never an exception."""
    groups: tuple[tuple[str, Callable[[Loop], Iterator[Check]]], ...] = (
        ("Label Studio", _label_studio),
        ("ML backend", _backend),
        ("Redis", _redis),
        ("registry", _registry),
        ("disk", _disk),
        ("projects", _projects),
    )
    for name, group in groups:
        try:
            yield from group(loop)
        except NerLoopError as error:
            yield Check(name, False, str(error), "see the message; run `nerloop doctor` again after it")


def _label_studio(loop: Loop) -> Iterator[Check]:
    release = loop.label_studio.version()
    yield Check("Label Studio answers", True, f"{loop.settings.label_studio_url}, release {release}")
    yield Check(
        "Label Studio's release is tested",
        release == TESTED_LABEL_STUDIO,
        release,
        f"this version of nerloop is tested with {TESTED_LABEL_STUDIO}; others may behave differently",
    )
    user = loop.label_studio.user()
    legacy = bool(LEGACY_TOKEN.fullmatch(loop.settings.label_studio_api_key))
    yield Check("the token is accepted", True, f"{'legacy token' if legacy else 'personal access token'} of {user}")


def _backend(loop: Loop) -> Iterator[Check]:
    settings = loop.settings
    health = _ask(settings, "GET", "/health")
    yield Check(
        "the ML backend answers here",
        health == 200,
        f"{settings.backend_url}/health: {health}",
        "start it (`nerloop up`, or `python -m ml_backend`), or correct NERLOOP_BACKEND_URL",
    )
    if health != 200:
        return
    event = {"action": "DOCTOR", "project": {"id": 0}}
    named = _ask(settings, "POST", "/webhook", event, {SECRET_HEADER: settings.webhook_secret})
    yield Check(
        "the webhook's header is accepted",
        named not in {401, 503},
        f"answered {named}",
        "NERLOOP_WEBHOOK_SECRET differs between here and the ML backend; set the same and run `nerloop connect` again",
    )
    if settings.basic_auth_user:
        anonymous = _ask(settings, "POST", "/webhook", event)
        yield Check(
            "strangers are refused",
            anonymous == 401,
            f"answered {anonymous}",
            "restart the ML backend with BASIC_AUTH_USER and BASIC_AUTH_PASS",
        )


def _redis(loop: Loop) -> Iterator[Check]:
    with redis_errors():
        loop.redis.ping()
    yield Check("Redis answers", True, "pong")
    workers = loop.jobs.workers()
    for queue in (TRAIN_QUEUE, PREDICT_QUEUE):
        names = [worker.name for worker in workers if queue in worker.queues]
        yield Check(
            f"a worker serves queue {queue}",
            bool(names),
            f"{len(names)} of them",
            f"start one: `python -m workers {queue}`",
        )
    replicas = loop.state.replicas()
    yield Check(
        "a backend replica is alive",
        bool(replicas),
        ", ".join(sorted(replicas)) or "none",
        "start the ML backend with the same NERLOOP_REDIS_URL",
    )


def _registry(loop: Loop) -> Iterator[Check]:
    loop.registry.check()
    yield Check("the registry answers", True, urlsplit(loop.settings.registry_address).scheme)


def _disk(loop: Loop) -> Iterator[Check]:
    free = shutil.disk_usage(loop.settings.home if loop.settings.home.exists() else ".").free
    yield Check(
        "there is room for models", free > FREE_BYTES, f"{free / 1e9:.0f} GB free", "free space, or set NERLOOP_HOME"
    )


def _projects(loop: Loop) -> Iterator[Check]:
    found = list(bindings(loop.label_studio, loop.settings))
    yield Check("a project is connected", bool(found), f"{len(found)} of them", "`nerloop connect --project ID`")
    for binding in found:
        project = loop.label_studio.project(binding.project_id)
        yield from _project(loop, binding, project)


def _project(loop: Loop, binding: Binding, project: Project) -> Iterator[Check]:
    again = f"`nerloop connect --project {project.id}`"
    backend = loop.label_studio.ml_backends(project.id)[0]
    reached = backend.get("state") == "CO"
    yield Check(
        f"project {project.id}: Label Studio reaches the ML backend",
        reached,
        f"state {backend.get('state')} {backend.get('error_message') or ''}".strip(),
        "Label Studio must reach NERLOOP_BACKEND_URL from its own machine; for a local or private address start it "
        "with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, or exempt the subnet as docker-compose.yml "
        f"does; then {again}",
    )
    yield _webhook(loop.label_studio, loop.settings, project, again)
    production = loop.registry.production(binding.model).name
    dropped = dropped_entities(binding, loop.registry.versions(binding.model))
    yield Check(
        f"project {project.id}: its decoder can learn its labels",
        not dropped,
        f"{dropped} entities of the newest version's texts overlap others",
        f"if they are meant, `nerloop connect --project {project.id} --decoder nested`; otherwise correct them",
    )
    if gazetteer_path(loop.settings, binding.model).exists():
        yield _gazetteer(gazetteer_path(loop.settings, binding.model), project)
    waiting = loop.label_studio.count_tasks(project.id, annotated=False)
    yield Check(
        f"project {project.id}: annotators are shown what is in production",
        project.model_version == production or not waiting,
        f"shown {project.model_version or 'no version'}, in production {production}, {waiting} tasks wait",
        "a refresh of the predictions is on its way or failed; see `nerloop status`",
    )
    refused = loop.state.refused()
    for replica, serving in loop.state.replicas().items():
        version = serving.get(binding.model)
        seen = version or "not in memory now; it is loaded when somebody asks for it"
        refusal = refused.get(replica, {}).get(binding.model)
        if refusal:
            seen = f"{version or 'none'}; {refusal['version']} is refused: {refusal['reason']}"
        yield Check(
            f"replica {replica} serves {production}",
            version in {production, None} and not refusal,
            seen,
            "it follows within seconds; see its log if it does not",
        )


def _gazetteer(path: Path, project: Project) -> Check:
    name = f"project {project.id}: its gazetteer can be used"
    try:
        terms = read_gazetteer(path)
    except BadInput as error:
        return Check(name, False, str(error), "correct that line; until then the terms read before stay")
    labels = {term.label for term in terms.values()}
    unknown = sorted(labels - project.label_config.shown_as(labels).keys())
    seen = f"{len(terms)} terms in {path}"
    if unknown:
        seen += f"; labels that the project lacks: {', '.join(unknown)}"
    return Check(name, not unknown, seen, "correct these labels in the file, or name them in predicted_values")


def _webhook(label_studio: LabelStudio, settings: Settings, project: Project, again: str) -> Check:
    url = webhook_url(settings.backend_url)
    ours = [hook for hook in label_studio.webhooks(project.id) if hook.get("url") == url]
    name = f"project {project.id}: the webhook has our header and events"
    if not ours:
        return Check(name, False, f"no webhook to {url}", again)
    hook = ours[0]
    wrong = {
        "another header": (hook.get("headers") or {}).get(SECRET_HEADER, "") != settings.webhook_secret,
        "other events": hook.get("send_for_all_actions") or not set(EVENTS) <= set(hook.get("actions") or ()),
        "switched off": not hook.get("is_active"),
        "more than one": len(ours) > 1,
    }
    seen = "; ".join(what for what, holds in wrong.items() if holds)
    return Check(name, not seen, seen or url, again)


def _ask(
    settings: Settings, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> int | str:
    try:
        return httpx.request(
            method, settings.backend_url.rstrip("/") + path, json=body, headers=headers or {}, timeout=5
        ).status_code
    except httpx.TransportError as error:
        return type(error).__name__
