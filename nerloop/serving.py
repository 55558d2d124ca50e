"""The predictors a process holds, one per model, always of the version in production. Owns loading and swapping them.

A swap replaces one reference: a request works with the predictor it was given, and the next one gets the new one.
"""

import logging
import threading
from pathlib import Path

from nerloop import checkpoint
from nerloop.errors import RegistryError
from nerloop.predictor import Predictor
from nerloop.registry import Registry
from nerloop.runtime import fastest, set_threads
from nerloop.starter import starter

logger = logging.getLogger(__name__)

WARM_UP_TEXT = "张三在北京的阿里巴巴工作。"


class ServingModels:
    """Loads each model once and swaps it when production changes. Safe to call from several threads."""

    def __init__(self, registry: Registry, cache: Path) -> None:
        self._registry = registry
        self._cache = cache
        self._predictors: dict[str, Predictor] = {}
        self._loading = threading.Lock()

    def predictor(self, model: str) -> Predictor:
        """Return the predictor of a model; the first call loads it. Raises `RegistryError` if that fails."""
        return self._predictors.get(model) or self.update(model)

    def update(self, model: str) -> Predictor:
        """Load what is in production now unless it is loaded already; the old one serves until the new one is warm."""
        with self._loading:
            production = self._registry.production(model)
            version, name = production.version, production.name
            loaded = self._predictors.get(model)
            if loaded is not None and loaded.model_version == name:
                return loaded
            if version is None:
                tagger, admitted = starter(), {}
            else:
                loaded_checkpoint = checkpoint.load(self._registry.download(version, self._cache))
                tagger, admitted = loaded_checkpoint.tagger, loaded_checkpoint.admitted
            runtime, _ = fastest(tagger, admitted, self._cache)
            set_threads(tagger.encoder.kind)
            predictor = Predictor(tagger, name, runtime=runtime)
            predictor.predict([WARM_UP_TEXT])
            self._predictors[model] = predictor
            logger.info("Serving %s as %s", model, name)
            return predictor

    def update_all(self) -> None:
        """Update every loaded model; one that fails is logged and goes on being served as it is."""
        for model in list(self._predictors):
            try:
                self.update(model)
            except RegistryError as error:
                logger.warning("Still serving %s as %s: %s", model, self._predictors[model].model_version, error)

    def versions(self) -> dict[str, str]:
        """Return {model: version} of what is loaded, without touching anything."""
        return {model: predictor.model_version for model, predictor in self._predictors.items()}
