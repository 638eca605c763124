"""What is told of a rollout: the live details of the Temporal UI, and the answer to its `status` query."""

from workflows import messages as m


def details(state: m.RolloutState) -> str:
    """Markdown for the Temporal UI: which service and versions, which step, and each guardrail's state."""
    percent = state.plan.steps[state.step].percent if state.step >= 0 else 0
    return (
        f"**{state.scope}**: {state.from_version} → **{state.to_version}** ({state.plan.strategy})\n\n"
        f"Step {state.step + 1} of {len(state.plan.steps)}, {percent:g} % of the traffic, "
        f"**{state.shown.replace('_', ' ')}**, {seconds(state.seconds_left)} left, "
        f"{state.extensions} extensions, {state.check_number} looks.\n\n"
        f"Last verdict: **{state.verdict}**. {state.reason}\n\n{state.table}"
    )


def status(deployment_id: str, state: m.RolloutState | None, *, ended: bool) -> m.RolloutStatus:
    """Where a rollout is; without a state, it has not begun. Once it has `ended` it serves no canary."""
    if state is None:
        return m.RolloutStatus(
            deployment_id=deployment_id,
            status="pending",
            step=-1,
            steps=0,
            traffic_percent=0,
            seconds_left=0,
            extensions=0,
            checks=0,
            last_verdict="continue",
            last_reason="",
        )
    served = state.plan.steps[state.step].traffic_percent if state.step >= 0 and not ended else 0.0
    return m.RolloutStatus(
        deployment_id=deployment_id,
        status=state.shown,
        step=state.step,
        steps=len(state.plan.steps),
        traffic_percent=served,
        seconds_left=state.seconds_left,
        extensions=state.extensions,
        checks=state.check_number,
        last_verdict=state.verdict,
        last_reason=state.reason,
    )


def seconds(length: float) -> str:
    """A length of time to read: whole seconds, or tenths of a short one."""
    return f"{length:.0f} s" if length >= 10 or length == 0 else f"{length:.1f} s"
