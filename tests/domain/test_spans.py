"""Spans that tell of one call: the innermost stands for it."""

from dataclasses import replace

from domain.spans import DEEPEST, SpanMark, innermost

TRACE = b"t" * 16


def mark(name: str, *ancestors: str, response: str | None = "r-1", at: tuple[int, int] = (0, 10)) -> SpanMark:
    ids = tuple(ancestor.encode() for ancestor in ancestors)
    return SpanMark(TRACE, name.encode(), ancestors=ids, response=response, began=at[0], ended=at[1])


def test_of_nested_spans_of_one_response_the_innermost_is_kept() -> None:
    outer, middle, inner = mark("a"), mark("b", "a"), mark("c", "x", "b", "a")
    assert innermost([outer, middle, inner]) == [inner]
    assert innermost([inner, middle, outer]) == [inner]


def test_spans_of_other_responses_or_traces_are_calls_of_their_own() -> None:
    outer, inner = mark("a"), mark("b", "a", response="r-2")
    assert innermost([outer, inner]) == [outer, inner]
    nameless = [mark("a", response=None), mark("b", "a", response=None)]
    assert innermost(nameless) == nameless
    elsewhere = replace(mark("b", "a"), trace=b"u" * 16)
    assert innermost([outer, elsewhere]) == [outer, elsewhere]


def test_siblings_are_two_calls_even_at_one_time() -> None:
    first, second = mark("b", "a", at=(0, 10)), mark("c", "a", at=(2, 8))
    assert innermost([first, second]) == [first, second]
    roots = [mark("b", at=(0, 10)), mark("c", at=(2, 8))]
    assert innermost(roots) == roots


def test_where_an_ancestor_between_is_unknown_the_times_tell() -> None:
    inner = mark("c", "unknown", at=(2, 8))
    around, after = mark("a", at=(1, 9)), mark("a", at=(5, 12))
    assert innermost([around], [inner]) == []
    assert innermost([after], [inner]) == [after]
    assert innermost([around, inner]) == [inner]


def test_a_call_that_was_counted_is_not_counted_by_a_wrapper_or_an_inner_span() -> None:
    assert innermost([mark("a")], [mark("b", "a")]) == []
    assert innermost([mark("b", "a")], [mark("a")]) == []
    assert innermost([mark("a")], [mark("b", "a", response="r-2")]) == [mark("a")]


def test_a_response_that_very_many_spans_name_tells_nothing() -> None:
    chain = [mark(f"{n}", *(f"{above}" for above in reversed(range(n)))) for n in range(DEEPEST + 1)]
    assert innermost(chain) == chain
    assert innermost(chain[:DEEPEST]) == chain[DEEPEST - 1 : DEEPEST]
