"""Our own keys in Redis, all of which can be rebuilt: from Label Studio, from the registry, or by waiting.

nerloop:bindings             hash  project id → {"model", "train_threshold", "decoder"}
nerloop:new-labels:MODEL     set   ids of annotations changed since the last decided run (a hint)
nerloop:replica:ID           str   {model: version} a backend replica serves; gone when the replica is
nerloop:promotions           channel, says that a model's production has changed (a hint)
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

from redis import Redis

from nerloop.jobs import redis_errors
from nerloop.tagging import DecoderKind

BINDINGS = "nerloop:bindings"
PROMOTIONS_CHANNEL = "nerloop:promotions"


@dataclass(frozen=True)
class Binding:
    """A project, the model (business line) it feeds and is labelled by, its threshold of new labels, its decoder."""

    project_id: int
    model: str
    train_threshold: int
    decoder: DecoderKind = "flat"


def default_model(project_id: int) -> str:
    """Return the name of the model of a project that was bound to none."""
    return f"project-{project_id}"


class ProjectState:
    """Typed access to the keys above; every call raises `QueueUnreachable` while Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def bindings(self) -> list[Binding]:
        """Return all bindings, by project."""
        with redis_errors():
            stored = cast(dict[bytes, bytes], self._redis.hgetall(BINDINGS))
        return sorted((Binding(**json.loads(value)) for value in stored.values()), key=lambda b: b.project_id)

    def binding(self, project_id: int) -> Binding | None:
        """Return the binding of a project, or None."""
        return next((binding for binding in self.bindings() if binding.project_id == project_id), None)

    def save_binding(self, binding: Binding) -> None:
        """Add or change one binding."""
        with redis_errors():
            self._redis.hset(BINDINGS, str(binding.project_id), json.dumps(asdict(binding)))

    def correct_bindings(self, noted: Iterable[Binding], true: Iterable[Binding]) -> None:
        """Replace what was `noted` before Label Studio was read by what is `true`; what came meanwhile stays."""
        with redis_errors(), self._redis.pipeline() as pipe:
            for binding in noted:
                pipe.hdel(BINDINGS, str(binding.project_id))
            for binding in true:
                pipe.hset(BINDINGS, str(binding.project_id), json.dumps(asdict(binding)))
            pipe.execute()

    def add_new_labels(self, model: str, ids: Iterable[str]) -> int:
        """Note changed annotations and return how many are noted now; one noted twice counts once."""
        return self._change_new_labels(model, add=set(ids))

    def remove_new_labels(self, model: str, ids: Iterable[str]) -> int:
        """Forget annotations that were created and deleted since the last run; return how many are noted now."""
        return self._change_new_labels(model, remove=set(ids))

    def new_label_ids(self, model: str) -> set[str]:
        """Return the noted annotations."""
        with redis_errors():
            members = cast(set[bytes], self._redis.smembers(_new_labels_key(model)))
        return {member.decode() for member in members}

    def correct_new_labels(self, model: str, noted: set[str], true: set[str]) -> None:
        """Replace what was `noted` before Label Studio was read by what is `true`; what came meanwhile stays."""
        self._change_new_labels(model, add=true, remove=noted - true)

    def new_labels(self, model: str) -> int:
        """Return how many annotations are noted."""
        return self._change_new_labels(model)

    def say_promoted(self, model: str) -> None:
        """Tell every replica to look at the registry now."""
        with redis_errors():
            self._redis.publish(PROMOTIONS_CHANNEL, model)

    def beat(self, replica: str, serving: dict[str, str], seconds: int) -> None:
        """Say what a replica serves; forgotten after `seconds` without another beat."""
        with redis_errors():
            self._redis.set(f"nerloop:replica:{replica}", json.dumps(serving), ex=seconds)

    def replicas(self) -> dict[str, dict[str, str]]:
        """Return {replica: {model: version}} of the replicas that are alive."""
        with redis_errors():
            keys = list(self._redis.scan_iter("nerloop:replica:*"))
            values = cast(list[bytes | None], self._redis.mget(keys)) if keys else []
        return {
            key.decode().rpartition(":")[2]: json.loads(value) for key, value in zip(keys, values, strict=True) if value
        }

    def _change_new_labels(self, model: str, *, add: set[str] | None = None, remove: set[str] | None = None) -> int:
        key = _new_labels_key(model)
        with redis_errors(), self._redis.pipeline() as pipe:
            if add:
                pipe.sadd(key, *add)
            if remove:
                pipe.srem(key, *remove)
            pipe.scard(key)
            results: list[Any] = pipe.execute()
        return int(results[-1])


def _new_labels_key(model: str) -> str:
    return f"nerloop:new-labels:{model}"
