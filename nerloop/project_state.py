"""Our own keys in Redis, all of which can be rebuilt: from Label Studio, from the registry, or by waiting.

nerloop:bindings             hash  project id → {"model", "train_threshold", "decoder", "annotations"}
nerloop:waiting:MODEL        zset  ids of annotations changed since the last decided run → when that was noted (a hint)
nerloop:memory:MODEL         str  {surface: [label, score]} that annotators labelled alike; from the labels
nerloop:memory-basis:MODEL   str  fingerprint of the labels and settings that the memory was made from
nerloop:memory-pending:MODEL set  surfaces that stored predictions may not show as the memory has them
nerloop:feedback:PROJECT     lock  of who stores error feedback on a project, gone by itself
nerloop:replica:ID           str   {model: version} a backend replica serves; gone when the replica is
nerloop:refused:ID           str   {model: {version, reason}} of what is in production but it cannot serve; likewise
nerloop:promotions           channel, says that a model's production has changed (a hint)
nerloop:memories             channel, says that a model's label memory has changed (a hint)
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from redis import Redis

from nerloop.annotations import AnnotationStrategy
from nerloop.gazetteer import Term
from nerloop.jobs import redis_errors
from nerloop.label_memory import LABEL_MEMORY
from nerloop.tagging import DecoderKind

BINDINGS = "nerloop:bindings"
PROMOTIONS_CHANNEL = "nerloop:promotions"
MEMORIES_CHANNEL = "nerloop:memories"
REPLICA, REFUSED = "nerloop:replica:", "nerloop:refused:"  # before a replica's id

# By Redis's own clock, so that it does not matter whether those of our machines agree.
NOTE = """
local now = redis.call('TIME')
for _, id in ipairs(ARGV) do
    redis.call('ZADD', KEYS[1], 'NX', string.format('%d.%06d', now[1], now[2]), id)
end
return redis.call('ZCARD', KEYS[1])
"""


@dataclass(frozen=True)
class Binding:
    """A project, the model (business line) it feeds and is labelled by, its threshold of new labels, its decoder.

    `annotations` says which of a task's annotations count.
    """

    project_id: int
    model: str
    train_threshold: int
    decoder: DecoderKind = "flat"
    annotations: AnnotationStrategy = "ground-truth"


@dataclass(frozen=True)
class Waiting:
    """New labels of a model: how many, and how many seconds ago the first and the last of them were noted.

    A number of seconds is below 0 where Redis's clock was set back since.
    """

    count: int
    oldest: float = 0.0
    newest: float = 0.0


def default_model(project_id: int) -> str:
    """Return the name of the model of a project that was bound to none."""
    return f"project-{project_id}"


class ProjectState:
    """Typed access to the keys above; every call raises `QueueUnreachable` while Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._note = redis.register_script(NOTE)

    def bindings(self) -> list[Binding]:
        """Return all bindings, by project."""
        with redis_errors():
            stored = cast(dict[bytes, bytes], self._redis.hgetall(BINDINGS))
        return sorted((Binding(**json.loads(value)) for value in stored.values()), key=lambda b: b.project_id)

    def binding(self, project_id: int) -> Binding | None:
        """Return the binding of a project, or None."""
        return next((binding for binding in self.bindings() if binding.project_id == project_id), None)

    def bound_to(self, model: str) -> list[Binding]:
        """Return the bindings of the projects that feed a model."""
        return [binding for binding in self.bindings() if binding.model == model]

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
        with redis_errors():
            return int(self._note(keys=[_waiting_key(model)], args=list(ids)))

    def remove_new_labels(self, model: str, ids: Iterable[str]) -> int:
        """Forget annotations that were created and deleted since the last run; return how many are noted now."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.zrem(_waiting_key(model), *ids)
            pipe.zcard(_waiting_key(model))
            return int(pipe.execute()[-1])

    def new_label_ids(self, model: str) -> set[str]:
        """Return the noted annotations."""
        with redis_errors():
            members = cast(list[bytes], self._redis.zrange(_waiting_key(model), 0, -1))
        return {member.decode() for member in members}

    def correct_new_labels(self, model: str, noted: set[str], true: Mapping[str, float | None]) -> None:
        """Replace what was `noted` before Label Studio was read by what is `true`; what came meanwhile stays.

        `true` holds when each was changed (Unix seconds), where that is known: one that was not noted has waited since
        then, also when Redis was emptied. Those that were noted before Redis's clock was set back are dated anew.
        """
        key = _waiting_key(model)
        with redis_errors():
            seconds, microseconds = self._redis.time()
            now = seconds + microseconds / 1e6
            future = cast(list[bytes], self._redis.zrange(key, f"({now}", "+inf", byscore=True))
            times = {label: now if at is None else min(at, now) for label, at in true.items()}
            with self._redis.pipeline() as pipe:
                if noted - true.keys():
                    pipe.zrem(key, *(noted - true.keys()))
                if times:
                    pipe.zadd(key, times, nx=True)
                if future:  # the clock was set back; xx: what is gone stays so
                    pipe.zadd(key, {label: times.get(label.decode(), now) for label in future}, xx=True)
                pipe.execute()

    def forget_new_labels(self, model: str) -> None:
        """Forget all that is noted of a model that no project feeds any more."""
        with redis_errors():
            self._redis.delete(_waiting_key(model))

    def new_labels(self, model: str) -> int:
        """Return how many annotations are noted."""
        return self.waiting(model).count

    def waiting(self, model: str) -> Waiting:
        """Return how many annotations are noted and for how long, by Redis's clock."""
        key = _waiting_key(model)
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.time()
            pipe.zcard(key)
            pipe.zrange(key, 0, 0, withscores=True)
            pipe.zrange(key, -1, -1, withscores=True)
            (seconds, microseconds), count, first, last = pipe.execute()
        if not count:
            return Waiting(0)
        now = seconds + microseconds / 1e6
        return Waiting(count, now - first[0][1], now - last[0][1])

    def memory(self, model: str) -> dict[str, Term]:
        """Return a model's label memory."""
        with redis_errors():
            stored = cast(bytes | None, self._redis.get(_memory_key(model)))
        rows = json.loads(stored) if stored else {}
        return {surface: Term(label, score, LABEL_MEMORY) for surface, (label, score) in rows.items()}

    def memory_basis(self, model: str) -> str:
        """Return the fingerprint of what a model's label memory was made from, empty where there is none."""
        with redis_errors():
            stored = cast(bytes | None, self._redis.get(_basis_key(model)))
        return stored.decode() if stored else ""

    def save_memory(self, model: str, memory: Mapping[str, Term], basis: str, pending: Iterable[str]) -> None:
        """Replace a model's label memory, add to what is pending of it, and tell every replica."""
        rows = json.dumps({surface: [term.label, term.score] for surface, term in memory.items()})
        with redis_errors(), self._redis.pipeline() as pipe:
            for surface in pending:
                pipe.sadd(_pending_key(model), _to_bytes(surface))
            pipe.set(_memory_key(model), rows)
            pipe.set(_basis_key(model), basis)
            pipe.publish(MEMORIES_CHANNEL, model)
            pipe.execute()

    def has_pending_surfaces(self, model: str) -> bool:
        """Tell whether some tasks are still to be brought up to the label memory."""
        with redis_errors():
            return bool(self._redis.scard(_pending_key(model)))

    def pending_surfaces(self, model: str) -> set[str]:
        """Return the surfaces whose tasks are still to be brought up to the label memory."""
        with redis_errors():
            members = cast(set[bytes], self._redis.smembers(_pending_key(model)))
        return {member.decode("utf-8", "surrogatepass") for member in members}

    def remove_pending_surface(self, model: str, surface: str) -> None:
        """Say that the tasks of a surface are up to the label memory."""
        with redis_errors():
            self._redis.srem(_pending_key(model), _to_bytes(surface))

    def forget_memory(self, model: str) -> None:
        """Forget the label memory of a model that no project feeds any more."""
        with redis_errors():
            self._redis.delete(_memory_key(model), _basis_key(model), _pending_key(model))

    @contextmanager
    def feedback_lock(self, project_id: int) -> Iterator[None]:
        """Let one at a time store error feedback on a project; raises `QueueUnreachable` where that takes too long."""
        lock = self._redis.lock(f"nerloop:feedback:{project_id}", timeout=60, blocking_timeout=30)
        with redis_errors(), lock:
            yield

    def say_promoted(self, model: str) -> None:
        """Tell every replica to look at the registry now."""
        with redis_errors():
            self._redis.publish(PROMOTIONS_CHANNEL, model)

    def beat(self, replica: str, serving: dict[str, str], refused: dict[str, dict[str, str]], seconds: int) -> None:
        """Say what a replica serves and refuses, as `ServingModels` has it; forgotten `seconds` after the last beat."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.set(f"{REPLICA}{replica}", json.dumps(serving), ex=seconds)
            pipe.set(f"{REFUSED}{replica}", json.dumps(refused), ex=seconds)
            pipe.execute()

    def replicas(self) -> dict[str, dict[str, str]]:
        """Return {replica: {model: version}} of the replicas that are alive."""
        return self._of_replicas(REPLICA)

    def refused(self) -> dict[str, dict[str, dict[str, str]]]:
        """Return {replica: {model: {"version", "reason"}}} of what replicas that are alive cannot serve."""
        return self._of_replicas(REFUSED)

    def _of_replicas(self, prefix: str) -> dict[str, Any]:
        with redis_errors():
            keys = list(self._redis.scan_iter(f"{prefix}*"))
            values = cast(list[bytes | None], self._redis.mget(keys)) if keys else []
        return {
            key.decode().removeprefix(prefix): json.loads(value)
            for key, value in zip(keys, values, strict=True)
            if value
        }


def _waiting_key(model: str) -> str:
    return f"nerloop:waiting:{model}"


def _memory_key(model: str) -> str:
    return f"nerloop:memory:{model}"


def _basis_key(model: str) -> str:
    return f"nerloop:memory-basis:{model}"


def _pending_key(model: str) -> str:
    return f"nerloop:memory-pending:{model}"


def _to_bytes(surface: str) -> bytes:
    return surface.encode("utf-8", "surrogatepass")  # a text may hold half an emoji
