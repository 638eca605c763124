"""Numbers as JSON has them."""

_EXACT = 2**53


def number(text: str) -> int | float:
    """The value of a number with a fraction or an exponent. `1.0` and `1e3` are whole, as in JSON Schema."""
    value = float(text)
    return int(value) if abs(value) <= _EXACT and value.is_integer() else value
