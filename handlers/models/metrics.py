"""What is measured of model calls; the node shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from l02.domain.inference import ModelUsage
from l02.handlers.models.endpoints.breaker import BreakerState

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics(Collector):
    """`states` gives the breaker of each endpoint."""

    def __init__(self, states: Callable[[], dict[str, BreakerState]]) -> None:
        self._states = states
        self._own = CollectorRegistry()
        self._latency = Histogram(
            "agent_runtime_model_bridge_latency_seconds",
            "Seconds that a model took: call, from asking the first endpoint to the outcome; first_token, from sending "
            "a request to the first token of its stream.",
            ("operation",),
            buckets=_SECONDS,
            registry=self._own,
        )
        self._retries = Counter(
            "agent_runtime_model_bridge_retries_total",
            "Attempts that failed and were followed by another at the same endpoint, by why.",
            ("endpoint", "code"),
            registry=self._own,
        )
        self._tokens = Counter(
            "agent_runtime_model_bridge_tokens_total",
            "Tokens of models' calls, failed ones too. Kind cached is a part of input, reasoning one of output.",
            ("model", "kind"),
            registry=self._own,
        )

    def took(self, operation: str, seconds: float) -> None:
        """A call or a first token took so long."""
        self._latency.labels(operation).observe(seconds)

    def retried(self, endpoint: str, code: str) -> None:
        """An attempt failed with this code, and another follows."""
        self._retries.labels(endpoint, code).inc()

    def used(self, model: str, usage: ModelUsage) -> None:
        """An attempt used so much."""
        for kind, tokens in (
            ("input", usage.input_tokens),
            ("cached", usage.cached_tokens),
            ("output", usage.output_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                self._tokens.labels(model, kind).inc(tokens)

    def collect(self) -> Iterable[Metric]:
        """All of them, for the node's registry."""
        yield from self._own.collect()
        breakers = GaugeMetricFamily(
            "agent_runtime_model_bridge_breaker_open",
            "1 if the endpoint has failed so often that it is left alone, 0.5 while a call finds out, else 0.",
            labels=("endpoint",),
        )
        values = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}
        for endpoint, state in self._states().items():
            breakers.add_metric((endpoint,), values[state])
        yield breakers
