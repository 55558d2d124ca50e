"""What a replica tells Prometheus: its requests, what it predicts and serves, and the loop's counts. Owns `/metrics`.

What is counted is this process's alone, so that replicas add up; labels and jobs are the loop's, the same from each.
"""

import logging
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nerloop.documents import Prediction
from nerloop.errors import QueueUnreachable
from nerloop.jobs import PREDICT_QUEUE, TRAIN_QUEUE
from nerloop.loop import Loop

logger = logging.getLogger(__name__)

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)  # seconds; Label Studio waits for 100

registry = CollectorRegistry()
_requests = Histogram(
    "nerloop_request_seconds", "Seconds that requests took", ["route", "status"], buckets=BUCKETS, registry=registry
)
_texts = Counter("nerloop_predicted_texts", "Texts that were labelled", ["model_version"], registry=registry)
_entities = Counter("nerloop_predicted_entities", "Entities found", ["model_version", "label"], registry=registry)


def count(predictions: Iterable[Prediction]) -> None:
    """Count what was predicted for somebody."""
    for prediction in predictions:
        _texts.labels(prediction.model_version).inc()
        for entity in prediction.entities:
            _entities.labels(prediction.model_version, entity.label).inc()


class Timing:
    """Middleware that times requests by route, so that neither names nor numbers in an address make a series each."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Time one request until its answer has begun: a stream goes on for as long as somebody listens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, has_begun = time.perf_counter(), False

        def observe(status: int) -> None:
            route = getattr(scope.get("route"), "path", "none")
            _requests.labels(route, status).observe(time.perf_counter() - started)

        async def timed(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                observe(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, timed)
        except Exception:  # Starlette answers 500 further out
            if not has_begun:
                observe(500)
            raise


class LoopCollector(Collector):
    """What is known at the moment somebody asks."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield what this replica serves, and of the loop what Redis says; nothing of that while it is down."""
        serving = GaugeMetricFamily(
            "nerloop_serving", "1 for each model and the version that serves it here", labels=["model", "model_version"]
        )
        for model, version in self._loop.serving.versions().items():
            serving.add_metric([model, version], 1)
        refused = GaugeMetricFamily(
            "nerloop_refused", "1 for each version that is in production and cannot be served here", labels=["model"]
        )
        for model in self._loop.serving.refused():
            refused.add_metric([model], 1)
        yield serving
        yield refused
        try:
            yield from self._of_redis()
        except QueueUnreachable as error:
            logger.warning("Metrics without what Redis holds: %s", error)

    def _of_redis(self) -> Iterator[Metric]:
        new = GaugeMetricFamily("nerloop_new_labels", "Labels since the last decided fine-tune", labels=["model"])
        threshold = GaugeMetricFamily("nerloop_train_threshold", "Labels that start a fine-tune", labels=["model"])
        queued = GaugeMetricFamily("nerloop_queued_jobs", "Jobs that wait for a worker", labels=["queue"])
        lowest: dict[str, int] = {}
        for binding in self._loop.state.bindings():
            lowest[binding.model] = min(binding.train_threshold, lowest.get(binding.model, binding.train_threshold))
        for model, labels in lowest.items():
            new.add_metric([model], self._loop.state.new_labels(model))
            threshold.add_metric([model], labels)
        for queue in (TRAIN_QUEUE, PREDICT_QUEUE):
            queued.add_metric([queue], self._loop.jobs.queued(queue))
        yield from (new, threshold, queued)
