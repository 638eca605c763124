"""What the server serves, to both arms of a rollout."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from llm_auto_optimizer import UnexpectedAnswerError
from llm_auto_optimizer._calls import config
from llm_auto_optimizer._config import ScopeAnswer, ScopeKey
from llm_auto_optimizer._config_source import ConfigSource, read_answer
from llm_auto_optimizer._request import decode, get
from llm_auto_optimizer._transport import Transport

from api.sidecar.arms import is_canary, unit_in

_REMEMBERED = 100


class Upstream:
    """Reads of the server, each tried once; blocking, for threads. They raise the SDK's `OptimizerError`.

    A scope's answer is the one for this sidecar's own unit; with a rollout, that of the other arm is read as
    a unit which is in it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._source = ConfigSource(transport, instance_id=uuid4().hex)
        # By version. Of one scope alone, and so of one thread.
        self._applied: dict[str, dict[str, Any]] = {}

    def follow(
        self, scope: ScopeKey, accept: Callable[[ScopeAnswer], None], wanted: Callable[[], bool]
    ) -> None:
        """As the SDK's streams do."""
        self._source.follow(scope, accept, wanted)

    def interrupt(self, scope: ScopeKey) -> None:
        """End a scope's stream."""
        self._source.interrupt(scope)

    def now(self, scope: ScopeKey, known: ScopeAnswer | None) -> ScopeAnswer | None:
        """The scope's answer; None where it is still the one that is known."""
        return self._source.once(scope) if known is None else self._source.again(scope, known)

    def other_arm(self, scope: ScopeKey, answer: ScopeAnswer) -> ScopeAnswer | None:
        """What the arm is answered that `answer` is not for, None where there is none.

        Raises:
            UnexpectedAnswerError: the rollout has changed meanwhile.
        """
        rollout = answer.rollout
        unit = None if rollout is None else unit_in(rollout, canary=not is_canary(answer))
        if rollout is None or unit is None:
            return None
        other = read_answer(self._transport.send(config(scope.service, scope.endpoint, unit)))
        expected = rollout.control if is_canary(answer) else rollout.canary
        if other.rollout is None or other.config.version != expected.version:
            raise UnexpectedAnswerError("the rollout has just changed", body=other.body, retryable=True)
        return other

    def applied(self, answer: ScopeAnswer) -> ScopeAnswer:
        """A service's answer with what `/config/current` tells besides: since when, and by whose hand."""
        version = answer.config.version
        if version not in self._applied:
            made = decode(self._transport.send(get(f"/config/versions/{quote(version, safe='')}")))
            try:
                applied = {"appliedAt": made["createdAt"], "appliedBy": made["createdBy"]}
            except KeyError as error:
                raise UnexpectedAnswerError(f"not a version: {error!r}", body=made) from error
            if len(self._applied) >= _REMEMBERED:
                self._applied.clear()
            self._applied[version] = applied
        return replace(answer, body={**(answer.body or {}), **self._applied[version]})
