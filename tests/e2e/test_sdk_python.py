"""The Python SDK against the product: reports are counted, and units get the arms that the server says."""

import time
from typing import Any

import httpx
from llm_auto_optimizer import OptimizerClient

SERVICE = "sdk-python"
CONFIG = {
    "provider": "openai",
    "model": "gpt-4o",
    "temperature": 0.7,
    "topP": 1.0,
    "maxTokens": 1024,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}


def wait_until(true: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_from_the_first_configuration_to_a_canary(product: dict[str, Any]) -> None:
    started = int(time.time() * 1000)
    with OptimizerClient(endpoint=product["api"], api_key=product["key"], poll_interval=3600) as client:
        client.update_config(CONFIG, reason="first", service=SERVICE, deployment_strategy="immediate")
        first = client.get_config(SERVICE)
        for _ in range(20):
            with client.track_request(service=SERVICE, endpoint="/") as tracker:
                tracker.set_tokens(input=10, output=20)
        assert client.flush(30)
        counted = client.query_metrics(
            services=[SERVICE],
            metrics=["requests.count"],
            time_range={"start": started - 60_000, "end": started + 600_000},
        )
        assert counted["metrics"][0]["dataPoints"][0]["value"] == 20

        hotter = {**CONFIG, "temperature": 0.9}
        client.update_config(hotter, reason="try", service=SERVICE, deployment_strategy="canary")
        units = [f"user-{number}" for number in range(200)]
        # Nothing is polled here: the stream tells of the rollout.
        wait_until(lambda: any(client.get_config(SERVICE, unit=unit).is_canary for unit in units))
        with httpx.Client(
            base_url=product["api"], headers={"Authorization": f"Bearer {product['key']}"}
        ) as http:
            for unit in units:
                served = http.get(f"/api/v1/config/service/{SERVICE}", params={"unit": unit}).json()
                kept = client.config_for(unit, SERVICE)
                assert kept is not None
                assert served["version"] == kept.version
        assert first.version in {client.get_config(SERVICE, unit=unit).version for unit in units}
    assert client.dropped_reports == 0
