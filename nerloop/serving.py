"""The predictors a process holds, one per model, always of the version in production.

Owns loading and swapping them, how many of them memory holds, and which version is refused.
A swap replaces one reference: a request works with the predictor it was given, and the next one gets the new one.
"""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nerloop import cache, checkpoint
from nerloop.errors import CheckpointCorrupt, NerLoopError, RegistryError
from nerloop.models import Model
from nerloop.predictor import Predictor
from nerloop.promotions import STARTER_VERSION
from nerloop.runtime import fastest, graphs_folder
from nerloop.starter import starter
from nerloop.versions import ModelVersion, Production

if TYPE_CHECKING:
    from nerloop.registry import Registry

logger = logging.getLogger(__name__)

SENTENCE = "张三在北京的阿里巴巴工作，昨天因为头痛去了华西附二院，医生给他开了布洛芬。"
WARM_UP = (SENTENCE[:13], SENTENCE, SENTENCE * 4)  # as short and as long as real requests
FIRST_RETRY_SECONDS = 15
LAST_RETRY_SECONDS = 900


@dataclass(frozen=True)
class Refusal:
    """A version that could not be made ready, how often, and when it is tried again (`time.monotonic()`)."""

    version: str
    reason: str
    tries: int
    retry_at: float


class ServingModels:
    """Loads each model once and swaps it when production changes. Safe to call from several threads."""

    def __init__(self, registry: "Registry", checkpoints: Path, memory: int) -> None:
        """`checkpoints` is the cache on this machine; `memory` the bytes that all models together may take."""
        self._registry = registry
        self._checkpoints = checkpoints
        self._memory = memory
        self._predictors: dict[str, Predictor] = {}
        self._used: dict[str, float] = {}
        self._versions: dict[str, str] = {}
        self._refusals: dict[str, Refusal] = {}
        self._loading = threading.Lock()

    def predictor(self, model: str) -> Predictor:
        """Return the predictor of a model; where it is not loaded, load it. Raises `RegistryError` if that fails."""
        self._used[model] = time.monotonic()
        return self._predictors.get(model) or self.update(model)

    def update(self, model: str) -> Predictor:
        """Load what is in production now unless it is loaded already; the old one serves until the new one is warm.

        Where nothing of the model is loaded and what is in production cannot be, the version that served last on this
        machine is loaded from the cache, else the one that was in production before. Raises `RegistryError` where there
        is none either.
        """
        with self._loading:
            try:
                production = self.outdated(model)
                return self._predictors[model] if production is None else self._swap(model, production)
            except RegistryError as error:
                if model in self._predictors:
                    raise
                return self._fall_back(model, error)

    def outdated(self, model: str) -> Production | None:
        """Return what is in production, unless it is loaded.

        Raises `RegistryError` where the registry cannot be asked, or the version is refused for now.
        """
        production = self._registry.production(model)
        refusal = self._refusals.get(model)
        if self.versions().get(model) == production.name:
            self._refusals.pop(model, None)
            return None
        if refusal and refusal.version == production.name and time.monotonic() < refusal.retry_at:
            raise RegistryError(f"{refusal.version} is refused: {refusal.reason}")
        return production

    def is_at_hand(self, model: str, production: Production) -> bool:
        """Tell whether it is quick to load: the starter, or what has served the model on this machine already."""
        return production.version is None or (
            production.name in cache.last_served(self._checkpoints, model)
            and (self._checkpoints / production.name).is_dir()
        )

    def refuse(self, model: str, version: str, reason: str) -> None:
        """Note why a version cannot be served. It is tried again after a while that doubles, another one at once."""
        before = self._refusals.get(model)
        tries = before.tries + 1 if before and before.version == version else 1
        wait = min(FIRST_RETRY_SECONDS * 2 ** (tries - 1), LAST_RETRY_SECONDS)
        self._refusals[model] = Refusal(version, reason, tries, time.monotonic() + wait)
        logger.error("Refusing %s, trying again in %s s: %s", version, wait, reason)

    def versions(self) -> dict[str, str]:
        """Return {model: version} of what is loaded, without touching anything."""
        return {model: predictor.model_version for model, predictor in self._predictors.copy().items()}

    def version(self, model: str) -> str:
        """Return the version that serves a model, or served it until it was unloaded; else the starter's."""
        return self._versions.get(model, STARTER_VERSION)

    def refused(self) -> dict[str, dict[str, str]]:
        """Return {model: {"version", "reason"}} of what is in production but cannot be served here."""
        return {
            model: {"version": refusal.version, "reason": refusal.reason}
            for model, refusal in self._refusals.copy().items()
        }

    def has_room(self) -> bool:
        """Tell whether one more model, as large as the largest that is loaded, fits into memory."""
        sizes = [predictor.runtime.memory for predictor in self._predictors.copy().values()]
        return sum(sizes) + max(sizes, default=0) <= self._memory

    def _swap(self, model: str, production: Production) -> Predictor:
        try:
            predictor, runtimes = load(self._registry, production.version, self._checkpoints)
        except (NerLoopError, OSError, RuntimeError) as error:  # RuntimeError: torch's and ONNX Runtime's words
            self.refuse(model, production.name, str(error))
            raise RegistryError(f"{production.name} is refused: {error}") from error
        self._refusals.pop(model, None)
        return self._install(model, predictor, runtimes)

    def _fall_back(self, model: str, error: RegistryError) -> Predictor:
        """Load what served last on this machine, else what was in production before; raises the error where none is."""
        refused = self.refused().get(model, {}).get("version")
        for version in cache.last_served(self._checkpoints, model):
            folder = None if version == STARTER_VERSION else self._checkpoints / version
            if version == refused or not (folder is None or cache.use(folder)):
                continue
            try:
                predictor, runtimes = _read(version, folder, self._checkpoints)
            except NerLoopError as worse:
                logger.warning("%s of this machine's cache: %s", version, worse)
                continue
            logger.warning("%s; %s comes from this machine's cache", error, version)
            return self._install(model, predictor, runtimes)
        if refused is None:  # it is the registry that cannot be asked
            raise error
        for earlier in (*(v for v in self._registry.promoted(model) if str(v) != refused), None):
            try:
                predictor, runtimes = load(self._registry, earlier, self._checkpoints)
            except NerLoopError as worse:
                logger.warning("%s cannot stand in either: %s", earlier, worse)
                continue
            logger.warning("%s; %s stands in", error, predictor.model_version)
            return self._install(model, predictor, runtimes)
        raise error

    def _install(self, model: str, predictor: Predictor, runtimes: Path) -> Predictor:
        """Let a warm predictor serve; the least recently used ones go where memory is short."""
        self._predictors[model] = predictor
        self._versions[model] = predictor.model_version
        self._used.setdefault(model, time.monotonic())
        logger.info("Serving %s as %s", model, predictor.model_version)
        while len(self._predictors) > 1 and sum(p.runtime.memory for p in self._predictors.values()) > self._memory:
            oldest = min(self._predictors.keys() - {model}, key=self._used.__getitem__)
            del self._predictors[oldest]  # who works with it goes on; its memory is free when the last has ended
            logger.info("Unloaded %s, the least recently used: NERLOOP_MODEL_MEMORY_MB is reached", oldest)
        try:
            cache.note_served(self._checkpoints, model, predictor.model_version, runtimes.name)
            cache.prune(self._checkpoints)
        except OSError as error:
            logger.warning("The cache %s: %s; free disk space or check permissions", self._checkpoints, error)
        return predictor


def load(registry: "Registry", version: ModelVersion | None, checkpoints: Path) -> tuple[Predictor, Path]:
    """Return a version's warm predictor (None: the starter's) and the folder of its runtimes.

    Downloads it and chooses its runtime where that was not done before on this machine. A copy in the cache that got
    damaged is fetched again. Raises `RegistryError` or `SettingsError`.
    """
    if version is None:
        return _read(STARTER_VERSION, None, checkpoints)
    folder = registry.download(version, checkpoints)
    try:
        return _read(str(version), folder, checkpoints)
    except CheckpointCorrupt as error:
        logger.warning("The copy of %s on this machine is damaged and is fetched again: %s", version, error)
        cache.remove(folder)
        return _read(str(version), registry.download(version, checkpoints), checkpoints)


def _read(version: str, folder: Path | None, checkpoints: Path) -> tuple[Predictor, Path]:
    if folder is None:
        model = Model(version, starter())
    else:
        found = checkpoint.load(folder)
        model = Model(version, found.tagger, folder, found.provenance)
    runtimes = graphs_folder(checkpoints, model.tagger)
    runtime, _ = fastest(model.tagger, model.admitted, runtimes)
    predictor = Predictor(model.tagger, version, runtime=runtime)
    for text in WARM_UP:
        predictor.predict([text])
    return predictor, runtimes
