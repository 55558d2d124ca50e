"""Puts a version into production and tells whoever must know. Owns the order; each step after the first may be lost."""

import logging
from typing import Literal

from nerloop.errors import BadInput, QueueUnreachable
from nerloop.loop import Loop
from nerloop.promotions import STARTER_VERSION, Entry, PromotionLog, check_model_name, version_name
from nerloop.status import waiting
from nerloop.versions import ModelVersion, version_named
from sync.notify import Event, notify

logger = logging.getLogger(__name__)


def push(loop: Loop, version: ModelVersion) -> str:
    """Promote a version over the generation it was trained against; return its decision from now on.

    That is `promoted`, `superseded`, or still `passed` while automatic promotion is paused: reconcile tries again.
    """
    decision = loop.registry.promote(version)
    if decision == "promoted":
        logger.info("Promoted %s: %s", version, version.reason)
        _tell(loop, version.model)
        notify(loop.settings, Event("promoted", version.model, str(version), version.reason))
    return decision


def promote_by_hand(loop: Loop, version: ModelVersion, by: str, why: str) -> None:
    """Put any version into production, whatever the gate said of it and though automatic promotion is paused.

    Raises `BadInput` where it serves already, its files are gone, or production changes to something else at the same
    moment.
    """
    log = loop.registry.promotion_log(version.model)
    if log.number == version.number:
        raise BadInput(f"{version} is in production already")
    _change_production(loop, version.model, version.number, "forced", log.generation, by, why)


def roll_back(loop: Loop, model: str, to: str, by: str, why: str) -> tuple[str, str]:
    """Put an earlier version, or the starter, into production again; return (what served, what serves now).

    `to` names it; empty: the production before this one. It pauses automatic promotion. Raises `BadInput` where the
    model is unknown, there is nothing to go back to, `to` was never in production, its files are gone, or production
    changes to something else at the same moment; in the last case automatic promotion is paused all the same.
    """
    log = known_log(loop, model)
    number = _number(model, to) if to else log.previous
    target, before = version_name(model, number), version_name(model, log.number)
    if number == log.number:
        raise BadInput(f"{target} is in production already; `nerloop pause {model}` keeps it there")
    if number and number not in {entry.number for entry in log.valid}:
        raise BadInput(f"{target} was never in production; `nerloop promote {target} --why …` puts it there")
    _change_production(loop, model, number, "rollback", log.generation, by, why)
    return before, target


def pause(loop: Loop, model: str, by: str, why: str) -> bool:
    """Keep production as it is until `resume`; tell whether it was not paused already.

    Raises `BadInput` for an unknown model.
    """
    if known_log(loop, model).pause:
        return False
    loop.registry.append(model, "pause", by, why)
    return True


def resume(loop: Loop, model: str, by: str, why: str) -> list[ModelVersion] | None:
    """Let what passes the gate be promoted automatically again; return what waited for it, newest first.

    Returns None where it was not paused. Raises `BadInput` for an unknown model.
    """
    log = known_log(loop, model)
    if not log.pause:
        return None
    waited = waiting(loop.registry.versions(model), log)
    loop.registry.append(model, "resume", by, why)
    return waited


def known_log(loop: Loop, model: str) -> PromotionLog:
    """Return the log of a model; raises `BadInput` for one that no project feeds and that has no version."""
    if not is_known(loop, check_model_name(model)):
        raise BadInput(f"no project is connected to model {model!r}; see `nerloop status`")
    return loop.registry.promotion_log(model)


def is_known(loop: Loop, model: str) -> bool:
    """Tell whether a project feeds a model or it has a version.

    Redis is asked first, which is fast. Without it a model that has a version is known all the same: one can roll back.
    """
    try:
        bound = bool(loop.state.bound_to(model))
    except QueueUnreachable:
        if loop.registry.versions(model):
            return True
        raise
    return bound or bool(loop.registry.versions(model))


def _number(model: str, name: str) -> int:
    if name == STARTER_VERSION:
        return 0
    named = version_named(name)
    if named is None or named[0] != model:
        raise BadInput(f"{name!r} is no version of {model}; give {model}-v and its number, or {STARTER_VERSION}")
    return named[1]


def _change_production(
    loop: Loop, model: str, number: int, kind: Literal["forced", "rollback"], replaces: int, by: str, why: str
) -> None:
    if number:
        loop.registry.version(model, number).check_files()
    if not loop.registry.append(model, kind, by, why, number, replaces):
        serves = loop.registry.promotion_log(model).number
        if serves == number:
            return  # somebody else wanted the same at the same moment, and has said so
        paused = "; automatic promotion is paused all the same" if kind == "rollback" else ""
        raise BadInput(
            f"production of {model} changed at the same moment, to {version_name(model, serves)}{paused}: look at it, "
            "then run this again"
        )
    said = Entry(0, number, replaces, kind, by, why).sentence(model)
    logger.info("Model %s: %s", model, said)
    _tell(loop, model)
    what: Literal["rolled_back", "promoted"] = "rolled_back" if kind == "rollback" else "promoted"
    notify(loop.settings, Event(what, model, version_name(model, number), said))


def _tell(loop: Loop, model: str) -> None:
    """Let replicas and predictions follow at once; where message or job are lost, polling and reconcile do it."""
    try:
        loop.state.say_promoted(model)
        for binding in loop.state.bound_to(model):
            loop.jobs.enqueue_refresh(binding.project_id)
    except QueueUnreachable as error:
        logger.warning("Production of %s changed, but could not say so: %s; reconcile will", model, error)
