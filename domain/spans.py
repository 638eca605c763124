"""Which of the spans that tell of one LLM call stands for it: the innermost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DEEPEST = 64
"""More spans of a trace than this that name one response are no nest: the name means nothing there."""


@dataclass(frozen=True, slots=True)
class SpanMark:
    """What a span is known by once it was taken; `part` 0 is its call, 1 and on its evaluations.

    `ancestors` are span ids, its parent's first, as far up as was known when it came. `began` and `ended` are
    ns since the epoch.
    """

    trace: bytes
    span: bytes
    part: int = 0
    ancestors: tuple[bytes, ...] = ()
    response: str | None = None
    began: int = 0
    ended: int = 0

    @property
    def key(self) -> tuple[bytes, bytes, int]:
        """Nothing is taken twice under the same."""
        return self.trace, self.span, self.part


def contains(outer: SpanMark, inner: SpanMark) -> bool:
    """Whether both tell of one call, the former by wrapping what the latter told of.

    They are of one trace and name one response, and the outer one is an ancestor. Where the ancestors between
    them are not known, because they end later and come in another batch, the times tell.
    """
    if outer.response is None or (outer.trace, outer.response) != (inner.trace, inner.response):
        return False
    if outer.span in inner.ancestors:
        return True
    if outer.span == inner.span or inner.span in outer.ancestors:
        return False
    # Of a common ancestor both are descendants, and neither is the other's.
    if not inner.ancestors or set(inner.ancestors) & set(outer.ancestors):
        return False
    return outer.began <= inner.began and inner.ended <= outer.ended


def innermost(marks: Sequence[SpanMark], known: Iterable[SpanMark] = ()) -> list[SpanMark]:
    """The marks that wrap no other one, and neither wrap one of `known` nor are wrapped by it.

    A call is counted once, by what came first: what ends first is exported first, and that is the innermost.
    """
    together, before = _by_response(marks), _by_response(known)
    return [
        mark
        for mark in marks
        if not any(contains(mark, other) for other in together.get(_response(mark), ()))
        and not any(
            contains(mark, other) or contains(other, mark) for other in before.get(_response(mark), ())
        )
    ]


def _response(mark: SpanMark) -> tuple[bytes, str | None]:
    return mark.trace, mark.response


def _by_response(marks: Iterable[SpanMark]) -> dict[tuple[bytes, str | None], list[SpanMark]]:
    found: dict[tuple[bytes, str | None], list[SpanMark]] = {}
    for mark in marks:
        if mark.response is not None:
            found.setdefault(_response(mark), []).append(mark)
    return {key: group for key, group in found.items() if len(group) <= DEEPEST}
