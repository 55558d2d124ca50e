"""The predictors a process holds: one per model, of the version in production, and those somebody asked for by version.

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
from nerloop.promotions import STARTER_VERSION, version_name
from nerloop.runtime import TorchRuntime, chosen, fastest, graphs_folder
from nerloop.starter import starter
from nerloop.versions import ModelVersion, Production

if TYPE_CHECKING:
    from nerloop.registry import Registry

logger = logging.getLogger(__name__)

SENTENCE = "张三在北京的阿里巴巴工作，昨天因为头痛去了华西附二院，医生给他开了布洛芬。"
WARM_UP = (SENTENCE[:13], SENTENCE, SENTENCE * 4)  # as short and as long as real requests
FIRST_RETRY_SECONDS = 15
LAST_RETRY_SECONDS = 900
PINNED = "@"  # before the name of a version that was asked for itself; no model's name begins so


@dataclass(frozen=True)
class Refusal:
    """A version that could not be made ready, how often, and when it is tried again (`time.monotonic()`)."""

    version: str
    reason: str
    tries: int
    retry_at: float


@dataclass(frozen=True)
class Loaded:
    """A warm predictor, the folder of its runtimes, and whether it runs in plain torch because none is known yet."""

    predictor: Predictor
    runtimes: Path
    makeshift: bool


class ServingModels:
    """Loads each model once and swaps it when production changes. Safe to call from several threads."""

    def __init__(self, registry: "Registry", checkpoints: Path, memory: int) -> None:
        """`checkpoints` is the cache on this machine; `memory` the bytes that all models together may take."""
        self._registry = registry
        self._checkpoints = checkpoints
        self._memory = memory
        self._loaded: dict[str, Loaded] = {}
        self._used: dict[str, float] = {}
        self._versions: dict[str, str] = {}
        self._refusals: dict[str, Refusal] = {}
        self._loading = threading.Lock()

    def predictor(self, model: str) -> Predictor:
        """Return the predictor of a model; where it is not loaded, load it. Raises `RegistryError` if that fails.

        Nobody waits here for runtimes to be made and timed: a version of which the fastest is not known yet is loaded
        in plain torch, and `outdated` until it is known.
        """
        self._used[model] = time.monotonic()
        loaded = self._loaded.get(model)
        if loaded is None:
            with self._loading:
                loaded = self._loaded.get(model) or self._load(model, quick=True)
        return loaded.predictor

    def pinned(self, version: ModelVersion | None) -> Predictor:
        """Return the predictor of a version (None: the starter), whatever is in production.

        Where none is loaded, it is loaded in the runtime that is at hand, and goes as the least used ones do. Raises
        `RegistryError` where it cannot be, `FilesRemoved` where its files are gone.
        """
        name = STARTER_VERSION if version is None else str(version)
        for model, loaded in self._loaded.copy().items():  # who finds it here waits for nobody who loads
            if loaded.predictor.model_version == name:
                self._used[model] = time.monotonic()
                return loaded.predictor
        key = f"{PINNED}{name}"
        with self._loading:
            self._used[key] = time.monotonic()
            if key not in self._loaded:
                self._hold(key, load(self._registry, version, self._checkpoints, quick=True))
            return self._loaded[key].predictor

    def update(self, model: str) -> Predictor:
        """Load what is in production now unless it is loaded already; the old one serves until the new one is warm.

        Where nothing of the model is loaded and what is in production cannot be, the version that served last on this
        machine is loaded from the cache, else the one that was in production before. Raises `RegistryError` where there
        is none either.
        """
        with self._loading:
            return self._load(model, quick=False).predictor

    def outdated(self, model: str) -> Production | None:
        """Return what is in production, unless it is loaded with its fastest runtime.

        Raises `RegistryError` where the registry cannot be asked, or the version is refused for now.
        """
        # Asked of each model at each poll, hence by one request.
        name = version_name(model, self._registry.promotion_log(model).number)
        refusal = self._refusals.get(model)
        if self.versions().get(model) == name and not self._is_makeshift(model):
            self._refusals.pop(model, None)
            return None
        if refusal and refusal.version == name and time.monotonic() < refusal.retry_at:
            raise RegistryError(f"{refusal.version} is refused: {refusal.reason}")
        return self._registry.production(model)

    def is_at_hand(self, model: str, production: Production) -> bool:
        """Tell whether it is quick to load: the starter, or what has served the model on this machine already."""
        return production.version is None or (
            not self._is_makeshift(model)
            and production.name in cache.last_served(self._checkpoints, model)
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
        """Return {model: version} of what is loaded for the models, without touching anything."""
        loaded = self._loaded.copy()
        return {model: loaded[model].predictor.model_version for model in loaded if not model.startswith(PINNED)}

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
        sizes = self._sizes()
        return sum(sizes) + max(sizes, default=0) <= self._memory

    def _sizes(self) -> list[int]:
        return [loaded.predictor.runtime.memory for loaded in self._loaded.copy().values()]

    def _is_makeshift(self, model: str) -> bool:
        loaded = self._loaded.get(model)
        return loaded is not None and loaded.makeshift

    def _load(self, model: str, *, quick: bool) -> Loaded:
        try:
            production = self.outdated(model)
            return self._loaded[model] if production is None else self._swap(model, production, quick)
        except RegistryError as error:
            if model in self._loaded:
                raise
            return self._fall_back(model, error)

    def _swap(self, model: str, production: Production, quick: bool) -> Loaded:
        try:
            loaded = load(self._registry, production.version, self._checkpoints, quick=quick)
        except (NerLoopError, OSError, RuntimeError) as error:  # RuntimeError: torch's and ONNX Runtime's words
            self.refuse(model, production.name, str(error))
            raise RegistryError(f"{production.name} is refused: {error}") from error
        self._refusals.pop(model, None)
        return self._install(model, loaded)

    def _fall_back(self, model: str, error: RegistryError) -> Loaded:
        """Load what served last on this machine, else what was in production before; raises the error where none is."""
        refused = self.refused().get(model, {}).get("version")
        for version in cache.last_served(self._checkpoints, model):
            folder = None if version == STARTER_VERSION else self._checkpoints / version
            if version == refused or not (folder is None or cache.use(folder)):
                continue
            try:
                loaded = _read(version, folder, self._checkpoints, quick=True)
            except NerLoopError as worse:
                logger.warning("%s of this machine's cache: %s", version, worse)
                continue
            logger.warning("%s; %s comes from this machine's cache", error, version)
            return self._install(model, loaded)
        if refused is None:  # it is the registry that cannot be asked
            raise error
        for earlier in (*(v for v in self._registry.promoted(model) if str(v) != refused), None):
            try:
                loaded = load(self._registry, earlier, self._checkpoints, quick=True)
            except NerLoopError as worse:
                logger.warning("%s cannot stand in either: %s", earlier, worse)
                continue
            logger.warning("%s; %s stands in", error, loaded.predictor.model_version)
            return self._install(model, loaded)
        raise error

    def _install(self, model: str, loaded: Loaded) -> Loaded:
        """Let a warm predictor serve a model."""
        version = loaded.predictor.model_version
        self._hold(model, loaded)
        self._versions[model] = version
        logger.info("Serving %s as %s", model, version)
        try:
            cache.note_served(self._checkpoints, model, version, loaded.runtimes.name)
            cache.prune(self._checkpoints)
        except OSError as error:
            logger.warning("The cache %s: %s; free disk space or check permissions", self._checkpoints, error)
        return loaded

    def _hold(self, key: str, loaded: Loaded) -> None:
        """Keep a predictor; the least recently used ones go where memory is short."""
        self._loaded[key] = loaded
        self._used.setdefault(key, time.monotonic())
        while len(self._loaded) > 1 and sum(self._sizes()) > self._memory:
            oldest = min(self._loaded.keys() - {key}, key=self._used.__getitem__)
            del self._loaded[oldest]  # who works with it goes on; its memory is free when the last has ended
            logger.info("Unloaded %s, the least recently used: NERLOOP_MODEL_MEMORY_MB is reached", oldest)


def load(registry: "Registry", version: ModelVersion | None, checkpoints: Path, *, quick: bool = False) -> Loaded:
    """Load a version (None: the starter), warm.

    Downloads it and, unless `quick`, chooses its runtime where that was not done before on this machine. A copy in the
    cache that got damaged is fetched again. Raises `RegistryError` or `SettingsError`.
    """
    if version is None:
        return _read(STARTER_VERSION, None, checkpoints)
    folder = registry.download(version, checkpoints)
    try:
        return _read(str(version), folder, checkpoints, quick=quick)
    except CheckpointCorrupt as error:
        logger.warning("The copy of %s on this machine is damaged and is fetched again: %s", version, error)
        cache.remove(folder)
        return _read(str(version), registry.download(version, checkpoints), checkpoints, quick=quick)


def _read(version: str, folder: Path | None, checkpoints: Path, *, quick: bool = False) -> Loaded:
    if folder is None:
        model = Model(version, starter())
    else:
        found = checkpoint.load(folder)
        model = Model(version, found.tagger, folder, found.provenance)
    runtimes = graphs_folder(checkpoints, model.tagger)
    known = (chosen if quick else fastest)(model.tagger, model.admitted, runtimes)
    predictor = Predictor(model.tagger, version, runtime=known[0] if known else TorchRuntime(model.tagger))
    for text in WARM_UP:
        predictor.predict([text])
    return Loaded(predictor, runtimes, makeshift=known is None)
