"""Messages survive Temporal's payloads, and leave nothing to chance."""

import inspect
import types
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError
from temporalio.contrib.pydantic import pydantic_data_converter

from workflows import messages

MESSAGES = [
    kind
    for _, kind in inspect.getmembers(messages, inspect.isclass)
    if issubclass(kind, BaseModel) and kind.__module__ == messages.__name__
]


def filled(kind: Any) -> Any:
    """A value of a type, every optional part of it given."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return arguments[-1]
    if origin in (Union, types.UnionType):
        return filled(next(part for part in arguments if part is not type(None)))
    if origin is list:
        return [filled(arguments[0])]
    if origin is tuple:
        return (filled(arguments[0]),)
    if origin is dict:
        return {filled(arguments[0]): filled(arguments[1])}
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return kind(**{name: filled(field.annotation) for name, field in kind.model_fields.items()})
    return {str: "a “text”", int: 2**53, float: 0.1, bool: True}[kind]


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
async def test_every_message_comes_back_from_json_as_it_was(kind: type[BaseModel]) -> None:
    value = filled(kind)
    payloads = await pydantic_data_converter.encode([value])
    assert payloads[0].metadata["encoding"] == b"json/plain"
    (back,) = await pydantic_data_converter.decode(payloads, [kind])
    assert back == value
    with pytest.raises(ValidationError):
        kind.model_validate({**value.model_dump(), "notAField": 1})


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_no_message_has_a_default_that_is_made_anew(kind: type[BaseModel]) -> None:
    made = [name for name, field in kind.model_fields.items() if field.default_factory is not None]
    assert made == [], "a workflow that made one would do so again, and differently, in its replay"
