"""The ledger over HTTP: how far predictions can be trusted, and what deployments saved."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio

from storage.database import Database
from tests.activities.reports import prepare, requests
from tests.api.answers import done, refused
from tests.storage import records
from tests.storage.ledgers import ended, level, measured, of_cost, opened

CALIBRATION, SAVINGS = "/api/v1/analytics/calibration", "/api/v1/analytics/savings"


@pytest_asyncio.fixture
async def history(database: Database) -> None:
    """Of chat three rollouts, of which one missed and one runs; of mail one that nothing was measured of."""
    await ended(database, "chat", of_cost(confidence=0.8), cost=(0.01, 0.0051), number=1)
    both = of_cost(predictions={"cost.avg": level(0.005, 0.0045, 0.0055), "quality.avg": level(80, 75, 85)})
    await ended(database, "chat", both, cost=(0.01, 0.012), number=2)
    await opened(database, "chat", of_cost(), model="gpt-3")
    mail = await opened(database, "mail", of_cost())
    await records.complete(database, mail.id)


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> dict[str, Any]:
    return done(await client.get(path, params=params))


@pytest.mark.usefixtures("history")
async def test_calibration_is_told_by_metric_and_service(client: httpx.AsyncClient) -> None:
    told = await get(client, CALIBRATION)
    assert told["predictions"] == {"measured": 2, "pending": 1, "unmeasured": 2}
    assert (told["overall"]["predictions"], told["overall"]["held"]) == (2, 1)
    assert told["overall"]["note"].startswith("Not enough yet: 2 measured")
    assert "bias" not in told["overall"]
    cost, quality = told["metrics"]
    assert (cost["metric"], cost["predictions"], cost["held"]) == ("cost.avg", 2, 1)
    assert cost["coverage"]["value"] == 0.5
    assert cost["coverage"]["low"] < 0.05 < 0.95 < cost["coverage"]["high"]
    # ln(.51) and ln(1.2), where ln(.5) was promised.
    assert cost["bias"] == pytest.approx(0.4476, abs=0.001)
    assert cost["widening"] > 1.0
    assert (quality["metric"], quality["predictions"], quality["widening"]) == ("quality.avg", 0, 1.0)
    assert "coverage" not in quality
    chat, mail = told["services"]
    assert (chat["service"], chat["overall"]["predictions"]) == ("chat", 2)
    assert (mail["service"], mail["overall"]["predictions"]) == ("mail", 0)
    assert mail["metrics"][0]["widening"] == pytest.approx(cost["widening"])
    confidence = told["confidence"]
    assert confidence["plans"] == 2
    # .8 came true and .9 did not.
    assert confidence["brier"] == pytest.approx((0.2**2 + 0.9**2) / 2)
    parts = (confidence[name] for name in ("reliability", "uncertainty", "withinBins"))
    assert confidence["brier"] == pytest.approx(sum(parts) - confidence["resolution"])
    (filled,) = [each for each in confidence["bins"] if each["plans"]]
    assert (filled["low"], filled["cameTrue"]["value"]) == (0.8, 0.5)


@pytest.mark.usefixtures("history")
async def test_the_ledger_itself_is_shown_by_pages(client: httpx.AsyncClient) -> None:
    told = await get(client, CALIBRATION, services="chat", limit=2, offset=1)
    whole = await get(client, CALIBRATION, services="chat")
    assert told["total"] == whole["total"] == len(whole["entries"])
    assert told["entries"] == whole["entries"][1:3]
    assert {key: told[key] for key in told if key != "entries"} == {
        key: whole[key] for key in whole if key != "entries"
    }
    outcomes = [(entry["metric"], entry.get("outcome"), "comparison" in entry) for entry in whole["entries"]]
    assert outcomes == [
        ("cost.avg", None, False),
        ("cost.avg", "rolled_back", True),
        ("errors.rate", "rolled_back", False),
        ("quality.avg", "rolled_back", False),
        ("cost.avg", "rolled_back", True),
        ("errors.rate", "rolled_back", False),
    ]
    first = whole["entries"][4]
    level_kept = {"mean": 0.005, "low": 0.0045, "high": 0.0055, "samples": 0}
    assert first["predicted"] == pytest.approx(level_kept)
    assert (first["incumbent"], first["measured"]["canary"]) == (0.01, pytest.approx(0.0051))
    assert first["comparison"]["held"] is True


@pytest.mark.usefixtures("history")
async def test_calibration_is_of_the_services_and_the_time_that_are_asked_for(
    client: httpx.AsyncClient,
) -> None:
    mail = await get(client, CALIBRATION, services="mail")
    assert mail["predictions"] == {"measured": 0, "pending": 0, "unmeasured": 1}
    assert [one["service"] for one in mail["services"]] == ["mail"]
    assert mail["confidence"]["plans"] == 0
    entries = (await get(client, CALIBRATION, services="chat"))["entries"]
    newest = await get(client, CALIBRATION, start=entries[0]["openedAt"], services="chat,nobody")
    assert newest["predictions"] == {"measured": 0, "pending": 1, "unmeasured": 0}
    older = await get(client, CALIBRATION, end=entries[0]["openedAt"], services=["chat", "mail"])
    assert older["predictions"] == {"measured": 2, "pending": 0, "unmeasured": 1}


async def test_without_measurements_it_says_that_it_cannot_tell(client: httpx.AsyncClient) -> None:
    told = await get(client, CALIBRATION)
    nothing = "Not enough yet: 0 measured, of 10 needed to judge by."
    assert told["predictions"] == {"measured": 0, "pending": 0, "unmeasured": 0}
    assert told["overall"] == {"predictions": 0, "held": 0, "note": nothing}
    assert (told["confidence"]["plans"], told["confidence"]["note"]) == (0, nothing)
    assert (told["metrics"], told["services"], told["entries"], told["total"]) == ([], [], [], 0)
    saved = await get(client, SAVINGS)
    assert (saved["total"], saved["deployments"], saved["sums"]["both"]["usd"]) == (0, [], 0.0)


@pytest.mark.usefixtures("history")
async def test_savings_tell_what_was_measured_from_what_is_projected(
    client: httpx.AsyncClient, database: Database
) -> None:
    await prepare(database)
    by_hand = await opened(database, "shop")
    await measured(database, by_hand.id, cost=(0.01, 0.006), n=100)
    await requests(database, 250, version="shop@2", service="shop")
    told = await get(client, SAVINGS)
    assert told["total"] == len(told["deployments"]) == 5
    shop, mail, *chat = told["deployments"]
    assert (shop["deploymentId"], shop["status"], shop["toVersion"]) == (by_hand.id, "pending", "shop@2")
    assert "promised" not in shop
    assert shop["showed"]["usd"] == pytest.approx(0.004)
    assert (shop["measured"]["requests"], shop["measured"]["usd"]) == (100, pytest.approx(0.4))
    assert (shop["projected"]["requests"], shop["projected"]["usd"]) == (150, pytest.approx(0.6))
    assert "measured" not in mail
    assert mail["promised"] == pytest.approx({"usd": 0.005, "low": 0.0045, "high": 0.0055})
    # 400 requests each: one saved .0049, the other cost .002 more.
    assert [one["measured"]["usd"] for one in chat[1:]] == pytest.approx([-0.8, 1.96])
    sums = told["sums"]
    assert (sums["deployments"], sums["unmeasured"]) == (5, 2)
    assert sums["measured"]["usd"] == pytest.approx(0.4 - 0.8 + 1.96)
    assert sums["projected"]["usd"] == pytest.approx(0.6)
    assert sums["both"]["usd"] == pytest.approx(2.16)
    assert sums["both"]["low"] < 2.16 < sums["both"]["high"]
    assert (sums["expected"]["usd"], sums["cameTo"]["usd"]) == pytest.approx((4.0, 1.16))
    page = await get(client, SAVINGS, limit=1, offset=1)
    assert (page["deployments"], page["sums"], page["total"]) == ([mail], sums, 5)
    assert (await get(client, SAVINGS, services="shop"))["total"] == 1


@pytest.mark.parametrize("path", [CALIBRATION, SAVINGS])
async def test_what_cannot_be_asked_is_refused_and_reading_is_enough(
    client: httpx.AsyncClient, key_with: Callable[..., Any], path: str
) -> None:
    for params in ({"limit": 0}, {"start": -1}, {"services": "no/such"}, {"end": "soon"}):
        refused(await client.get(path, params=params), 400, "INVALID_REQUEST")
    for scope, status in (("read", 200), ("ingest", 403)):
        headers = {"Authorization": f"Bearer {await key_with(scope)}"}
        assert (await client.get(path, headers=headers)).status_code == status
