"""Numbers that a person has typed."""

from __future__ import annotations

from typing import Any

from pamela_cli.errors import UsageError


def read_number(kind: type[Any], text: str) -> Any:
    """What a person has typed, as an ``int`` or a ``float``; ValueError if it is not a number.

    Both types would accept the digits of every script, which nobody types on purpose: ٣ for 3.
    """
    if not text.isascii():
        raise ValueError(f"{text} has digits other than 0 to 9")
    return kind(text)


def whole_number(name: str, text: str | None, low: int, high: int) -> int | None:
    """The text of a flag that is no setting, as a whole number within its bounds."""
    if text is None:
        return None
    try:
        value: int = read_number(int, text)
    except ValueError as error:
        raise UsageError(f"--{name} must be a whole number, not '{text}'.") from error
    if not low <= value <= high:
        bound = f"at least {low:,}" if value < low else f"at most {high:,}"
        raise UsageError(f"--{name} must be {bound}, not {value}.")
    return value
