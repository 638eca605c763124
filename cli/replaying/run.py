"""The replay from its start to its end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llm_auto_optimizer import Deployment, OptimizationStatus, OptimizerClient

from cli.replaying.driver import Driver
from cli.replaying.errors import ReplayError
from cli.replaying.options import ReplayOptions
from cli.replaying.progress import Progress, Silent, View
from cli.replaying.report import ReplayReport, build_report
from cli.replaying.setup import compressed_policy, set_incumbent
from cli.replaying.traces import read_arrivals, read_outcomes
from cli.replaying.traffic import Traffic
from domain.policy import RolloutPolicy

_POLL = 0.2
_RETRIES = 6
_OVER = ("completed", "rolled_back", "failed", "held")


def run_replay(options: ReplayOptions, view: View | None = None) -> ReplayReport:
    """Sends traffic, has the optimizer decide on it, follows the rollout to its end, and reports.

    Raises:
        ReplayError: a file, the policy or the server's answers leave nothing to replay.
        OptimizerError: the server failed, or refused.
    """
    arrivals = read_arrivals(options.arrivals)
    outcomes = read_outcomes(options.outcomes, tuple(model.name for model in options.models))
    policy = compressed_policy(options)
    traffic = Traffic(arrivals, outcomes, seed=options.seed)
    with OptimizerClient(
        endpoint=options.endpoint,
        api_key=options.api_key,
        retries=_RETRIES,
        poll_interval=min(1.0, policy.rollout.check_seconds / 4),
    ) as client:
        _require_health(client)
        client.put_policy(options.service, policy.given())
        longest_answer = max(arrival.generated_tokens for arrival in arrivals)
        watching = set_incumbent(client, options, longest_answer)
        driver = Driver(client, options, traffic, policy.search_space.models)
        time_limit = options.time_limit or _time_limit(options, policy.rollout, traffic.rate)
        replay = _Replay(client, options, driver, view or Silent(), time_limit)
        with _running(driver):
            replay.warm_up(watching)
            optimization = replay.optimize()
            deployment, ended = replay.follow(optimization)
            if ended:
                replay.linger()
    return build_report(options, traffic, driver.tally, optimization, deployment, ended=ended)


def _time_limit(options: ReplayOptions, rollout: RolloutPolicy, rate: float) -> float:
    """Seconds in which a replay should end, twice what its longest course takes and some for the server."""
    longest_step = rollout.step_seconds * (1 + rollout.max_extensions)
    rollouts = longest_step * len(rollout.steps) + rollout.step_seconds
    return (
        120
        + options.warmup_seconds
        + 2 * (rollouts + (options.warmup + options.aftermath) / (rate * options.speed))
    )


@contextmanager
def _running(driver: Driver) -> Iterator[None]:
    driver.start()
    try:
        yield
    finally:
        driver.stop()
    driver.check()


def _require_health(client: OptimizerClient) -> None:
    health = client.get_health()
    if health["status"] == "unhealthy":
        faults = "; ".join(
            f"{c['name']}: {c.get('message', '')}" for c in health["checks"] if not c["healthy"]
        )
        raise ReplayError(f"the server is unhealthy: {faults}")


class _Replay:
    """The stages of a replay, each while the traffic goes on."""

    def __init__(
        self,
        client: OptimizerClient,
        options: ReplayOptions,
        driver: Driver,
        view: View,
        time_limit: float,
    ) -> None:
        self._client = client
        self._options = options
        self._driver = driver
        self._view = view
        self._progress = Progress("starting", driver.tally)
        self._time_limit = time_limit
        self._deadline = time.monotonic() + time_limit

    def warm_up(self, watching: str | None) -> None:
        """Gives the incumbent a history; a change to it, if there was one, is watched to its end first."""
        if watching is not None:
            self._progress.stage = f"waiting until the change to {self._options.models[0].name} is watched"
            self._until(lambda: self._client.get_deployment(watching)["status"] in _OVER)
        self._send(
            self._options.warmup,
            f"warming up on {self._options.models[0].name}",
            seconds=self._options.warmup_seconds,
        )

    def optimize(self) -> OptimizationStatus:
        """Triggers the optimization, and gives it once it is over or the time is up."""
        run_id = self._client.trigger_optimization([self._options.service])["optimizationId"]
        self._progress.stage = "optimizing"
        self._until(lambda: self._poll_optimization(run_id)["status"] in ("completed", "failed"))
        optimization = self._poll_optimization(run_id)
        if optimization["status"] == "failed":
            raise ReplayError(f"the optimization failed: {optimization.get('error', 'no reason given')}")
        return optimization

    def follow(self, optimization: OptimizationStatus) -> tuple[Deployment | None, bool]:
        """The rollout once it is over, None where there is none; False where the time was up before."""
        if optimization["status"] != "completed":
            return None, False
        deployments = optimization["result"]["deployments"]
        if not deployments:
            return None, True
        deployment_id = deployments[0]["deploymentId"]
        self._driver.phase = "rollout"
        self._progress.stage = "rolling out"
        ended = self._until(lambda: self._poll_deployment(deployment_id)["status"] in _OVER)
        return self._poll_deployment(deployment_id), ended

    def linger(self) -> None:
        """Sends some traffic to what holds now, unless that is still two versions."""
        deployment = self._progress.deployment
        if deployment is not None and deployment["status"] == "held":
            return
        self._driver.phase = "after"
        self._send(self._options.aftermath, "measuring what holds now")

    def _send(self, requests: int, stage: str, *, seconds: float = 0.0) -> None:
        self._progress.stage = stage
        enough = self._driver.tally.sent + requests
        earliest = time.monotonic() + seconds
        if not self._until(lambda: self._driver.tally.sent >= enough and time.monotonic() >= earliest):
            raise ReplayError(f"the time limit of {self._time_limit:.0f} s came while {stage}")

    def _poll_optimization(self, run_id: str) -> OptimizationStatus:
        self._progress.optimization = self._client.get_optimization(run_id)
        return self._progress.optimization

    def _poll_deployment(self, deployment_id: str) -> Deployment:
        self._progress.deployment = self._client.get_deployment(deployment_id)
        return self._progress.deployment

    def _until(self, over: Callable[[], bool]) -> bool:
        """Waits while the traffic goes on; False when the time is up."""
        while not over():
            self._driver.check()
            self._view.update(self._progress)
            if time.monotonic() > self._deadline:
                return False
            time.sleep(_POLL)
        self._view.update(self._progress)
        return True
