"""Traffic of both arms, as applications report it: rows in `metrics` and `quality`, arriving now."""

from dataclasses import dataclass

import numpy as np

from domain.config import LLMConfig
from storage import partitions, samples
from storage.database import Database


@dataclass(frozen=True)
class Arm:
    """How an arm fares. `version` None: its reports name none."""

    version: str | None
    config: LLMConfig
    latency_ms: float = 400.0
    cost_usd: float = 0.002
    error_rate: float = 0.01
    quality: float | None = 90.0


class Traffic:
    """Reports requests of a service, the same ones in every run of a test."""

    def __init__(self, database: Database, service: str = "chat", endpoint: str = "answer") -> None:
        self._database = database
        self._service = service
        self._endpoint = endpoint
        self._random = np.random.default_rng(20_240_101)

    async def prepare(self) -> None:
        pool = await self._database.pool()
        async with pool.acquire() as connection:
            await partitions.ensure_partitions(connection)

    async def send(self, *arms: tuple[Arm, int]) -> None:
        """Commit so many requests of each arm, all arriving now."""
        connection = await samples.connect_for_copy(self._database)
        try:
            async with connection.transaction():
                now = await samples.clock(connection)
                for arm, requests in arms:
                    await samples.copy_rows(connection, "metrics", self._metrics(arm, requests, now), now)
                    if arm.quality is not None:
                        scores = self._scores(arm.version, arm.quality, requests, now)
                        await samples.copy_rows(connection, "quality", scores, now)
        finally:
            await connection.close()

    def _metrics(self, arm: Arm, requests: int, now: int) -> list[samples.Row]:
        failed = self._random.random(requests) < arm.error_rate
        latency = arm.latency_ms * np.exp(self._random.normal(0, 0.2, requests))
        cost = arm.cost_usd * np.exp(self._random.normal(0, 0.2, requests))
        return [
            (
                now,
                self._service,
                self._endpoint,
                arm.config.provider,
                arm.config.model,
                arm.version,
                None,
                float(latency[i]),
                200,
                100,
                300,
                float(cost[i]),
                500 if failed[i] else 200,
                None,
                None,
                None,
            )
            for i in range(requests)
        ]

    def _scores(self, version: str | None, quality: float, requests: int, now: int) -> list[samples.Row]:
        scores = np.clip(self._random.normal(quality, 3, requests), 0, 100)
        return [(now, self._service, None, version, float(score), None, "judge", None) for score in scores]
