"""What is measured of model calls."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from l02.handlers.models.settings import Defaults
from tests.models.conftest import Bridge
from tests.models.endpoint import Refuse, ScriptedEndpoint
from tests.models.shapes import Say

NAME = "agent_runtime_model_bridge"


async def test_calls_tokens_retries_and_breakers(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    registry = CollectorRegistry()
    registry.register(bridge.metrics)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"{NAME}_{name}", labels)

    endpoint.say(Refuse(503), Say("Hello", usage=(10, 5, 4, 2)))
    defaults = Defaults(max_retries=1, breaker_failures=2)
    await bridge.have({"endpoint": endpoint.url, "model": "any"}, defaults=defaults)
    where = endpoint.url.split("/")[2]
    await bridge.ask()
    await bridge.ask(stream=True)
    assert value("latency_seconds_count", operation="call") == 2
    assert value("latency_seconds_count", operation="first_token") == 1
    assert value("retries_total", endpoint=where, code="E2101") == 1
    tokens = {
        kind: value("tokens_total", model="any", kind=kind) for kind in ("input", "cached", "output", "reasoning")
    }
    assert tokens == {"input": 20, "cached": 8, "output": 10, "reasoning": 4}
    assert value("breaker_open", endpoint=where) == 0
    endpoint.say(Refuse(500))
    await bridge.ask()
    assert value("breaker_open", endpoint=where) == 1
    await bridge.close()
    assert value("breaker_open", endpoint=where) is None
