"""Every way in, against one product under a rollout: the same configurations, every report counted once."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.conformance.checks import (
    Arm,
    counted,
    require_configs,
    require_counted,
    require_total,
)
from tests.conformance.participants import PARTICIPANTS, Participant
from tests.conformance.playing import Addresses, Pace, Played, available, play
from tests.conformance.scenario import Rollout, begin
from tests.sdks.tools import need


@dataclass(frozen=True, slots=True)
class Outcome:
    """What participants did under a rollout, and what analytics say of it."""

    rollout: Rollout
    played: dict[str, Played]
    found: dict[Arm, dict[str, float]]


@pytest_asyncio.fixture(scope="module")
async def outcome(product: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder: Path = tmp_path_factory.mktemp("conformance")
    since = time.time_ns() // 1_000_000 - 60_000
    address = Addresses(product["api"], product["grpc"], product["key"])
    headers = {"Authorization": f"Bearer {address.key}"}
    async with httpx.AsyncClient(base_url=address.api, headers=headers, timeout=30) as server:
        rollout = await begin(server)
        pace = Pace()
        pace.enough.set()
        played = await play(available(PARTICIPANTS), address, folder, pace)
        calls = sum(len(one.calls) for one in played.values())
        return Outcome(rollout, played, await counted(server, since, calls))


@pytest.mark.parametrize("participant", PARTICIPANTS, ids=lambda one: one.name)
def test_a_participant_gets_its_configurations_and_is_counted_once_by_arm(
    outcome: Outcome, participant: Participant
) -> None:
    need(*participant.needs)
    played = outcome.played[participant.name]
    assert not played.uncertain
    require_configs(participant, played, outcome.rollout, away=False)
    require_counted(participant, played, outcome.found)


def test_the_service_has_the_calls_of_its_participants_alone(outcome: Outcome) -> None:
    require_total(outcome.played, outcome.found)
