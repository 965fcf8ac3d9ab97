"""Counters and latencies under TensorFlow Serving's names, for Prometheus to fetch from the REST port."""

from __future__ import annotations

import re

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram

from ctd.serving.errors import Code

DEFAULT_PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4

_LATENCY = tuple(10 * 1.8**step for step in range(33))  # microseconds: 10 to about 24 minutes
_SIZES = tuple(2.0**step for step in range(15))
# The library ends the names of counters as OpenMetrics wants it; dashboards for TensorFlow Serving know them without.
_SUFFIXED = re.compile(rb"^((?:# (?:HELP|TYPE) )?:tensorflow:serving:request_count)_total\b", re.M)


class Metrics:
    """What the server has answered since it started."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter(
            ":tensorflow:serving:request_count",
            "The total number of requests.",
            ("model_name", "status"),
            registry=self._registry,
        )
        self._request_latency = self._histogram(
            "request_latency",
            "Distribution of wall time (in microseconds) for requests.",
            ("model_name", "API", "entrypoint"),
            _LATENCY,
        )
        self._runtime_latency = self._histogram(
            "runtime_latency",
            "Distribution of wall time (in microseconds) for the TensorFlow runtime.",
            ("model_name", "API", "runtime"),
            _LATENCY,
        )
        self._warmup_latency = self._histogram(
            "model_warmup_latency",
            "Distribution of wall time (in microseconds) for replaying warm-up records.",
            ("model_path", "status"),
            _LATENCY,
        )
        self._examples = self._histogram(
            "request_example_counts", "The number of tensorflow.Examples per request.", ("model",), _SIZES
        )
        self._example_total = Counter(
            ":tensorflow:serving:request_example_count_total",
            "The total number of tensorflow.Examples.",
            ("model",),
            registry=self._registry,
        )

    def answered(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """A request came to its end."""
        self._requests.labels(model, code.name).inc()
        if code is Code.OK:
            self._request_latency.labels(model, api, entrypoint).observe(seconds * 1e6)

    def ran(self, model: str, api: str, seconds: float) -> None:
        """The model itself was busy for so long."""
        self._runtime_latency.labels(model, api, "TF1").observe(seconds * 1e6)

    def examples(self, model: str, number: int) -> None:
        """A classify or regress request brought so many examples."""
        self._examples.labels(model).observe(number)
        self._example_total.labels(model).inc(number)

    def warmed_up(self, model_path: str, code: Code, seconds: float) -> None:
        """The warm-up records of a version were replayed."""
        self._warmup_latency.labels(model_path, code.name).observe(seconds * 1e6)

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return _SUFFIXED.sub(rb"\1", prometheus_client.generate_latest(self._registry))

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f":tensorflow:serving:{name}", text, labels, buckets=buckets, registry=self._registry)
