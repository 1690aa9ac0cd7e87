"""Cells of data sets as text, by their type; `str()` would make "42.0" of a whole number.

A column has one type for all its rows: whole numbers beside a missing one become floats, answers of
several parts become lists. A verifier compares text, so each type has one reader here, or is
refused with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

_EXACT = 2**53
"""Floats up to here hold whole numbers exactly."""


class UnreadableCellError(ValueError):
    """A value that stands for no text; the message says why, and what to do."""


def reference_text(value: Any) -> str | None:
    """The text of a reference answer; None: the row has none.

    Null, NaN and blank text are none. Whole numbers lose a point: 42.0 is "42". One text in a list
    is that text. Other lists of texts or objects, and objects, become JSON, as verifiers of code
    and of form read them; fields that are null are left out.

    Raises:
        UnreadableCellError: the value may be written in more than one way.
    """
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict):
        return reference_text(value[0])
    if isinstance(value, list | dict):
        return _json(value)
    return _read(value, {**_NAMES, bytes: _utf8})


def name_text(value: Any) -> str | None:
    """The text of a name: a domain, a source, an id, a category; None: the row has none.

    Raises:
        UnreadableCellError: the value is no name.
    """
    if isinstance(value, list) and len(value) == 1:
        return name_text(value[0])
    return _read(value, _NAMES)


def _read(value: Any, readers: dict[type, Callable[[Any], str | None]]) -> str | None:
    if value is None:
        return None
    for kind, reader in readers.items():
        if isinstance(value, kind):
            return reader(value)
    advice = next((text for kind, text in _REFUSED.items() if isinstance(value, kind)), None)
    raise UnreadableCellError(
        f"{type(value).__name__} {str(value)[:60]!r} {advice or 'stands for no text'}; write it "
        "into the column as text, as a response would"
    )


def _text(value: str) -> str | None:
    return value if value.strip() else None


def _float(value: float) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise UnreadableCellError("an infinite number; write it into the column as text")
    if value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    return _plain(Decimal(repr(value)))


def _decimal(value: Decimal) -> str | None:
    if not value.is_finite():
        return _float(float(value))
    return _plain(value)


def _plain(value: Decimal) -> str:
    """Digits without an exponent and without zeros behind the point."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _boolean(value: bool) -> str:
    raise UnreadableCellError(
        f"boolean {value}, which responses may call true, yes or correct; write the word that they "
        "must say into the column as text"
    )


def _utf8(value: bytes) -> str | None:
    try:
        return _text(value.decode("utf-8"))
    except UnicodeDecodeError:
        raise UnreadableCellError("bytes that are no UTF-8 text") from None


def _json(value: Any) -> str:
    plain = _jsonable(value)
    if not plain:
        raise UnreadableCellError(f"an empty {type(value).__name__}")
    if isinstance(plain, list) and not all(isinstance(item, str | dict) for item in plain):
        raise UnreadableCellError(
            f"a list of {len(plain)} values, {json.dumps(plain)[:60]}, which no verifier compares; "
            "write them into the column as one text, as a response would"
        )
    return json.dumps(plain, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    """The value with what JSON has; null fields left out, whole floats as whole numbers."""
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnreadableCellError(f"{value} within a list or an object")
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    if value is None or isinstance(value, str | int):
        return value
    raise UnreadableCellError(f"{type(value).__name__} within a list or an object")


_NAMES: dict[type, Callable[[Any], str | None]] = {
    str: _text,
    bool: _boolean,  # before int, which it is
    int: str,
    float: _float,
    Decimal: _decimal,
}
_DATES = "has no single spelling"
_REFUSED: dict[type, str] = {date: _DATES, time: _DATES, timedelta: _DATES}
