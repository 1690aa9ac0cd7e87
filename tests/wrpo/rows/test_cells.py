"""Cells of data sets become the text that they stand for, or are refused with the reason."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from typing import Any

import pytest

from wrpo.rows.cells import UnreadableCellError, name_text, reference_text

TEXTS: list[tuple[Any, str | None]] = [
    ("42", "42"),
    (" x = 5 ", " x = 5 "),
    ("", None),
    (" \n", None),
    (None, None),
    (42, "42"),
    (-7, "-7"),
    (10**30, str(10**30)),
    (42.0, "42"),
    (-0.0, "0"),
    (1e15, "1000000000000000"),
    (0.1, "0.1"),
    (3.25, "3.25"),
    (1e-7, "0.0000001"),
    (1e300, "1" + "0" * 300),
    (math.nan, None),
    (Decimal("42.00"), "42"),
    (Decimal("18.90"), "18.9"),
    (Decimal("1E+3"), "1000"),
    (Decimal("NaN"), None),
    ([42.0], "42"),
    (["42"], "42"),
    ([None], None),
    (b"caf\xc3\xa9", "café"),
]
JSON: list[tuple[Any, Any]] = [
    (["assert f(1)", "assert f(2)"], ["assert f(1)", "assert f(2)"]),
    ([{"min_words": 50, "json": None}], [{"min_words": 50}]),
    ([{"min_words": 50.0}], [{"min_words": 50}]),
    ([{"lowercase": True}], [{"lowercase": True}]),
    ([{"stdin": "3\n", "stdout": "é"}], [{"stdin": "3\n", "stdout": "é"}]),
    ({"inputs": ["1"], "outputs": [1.5]}, {"inputs": ["1"], "outputs": [1.5]}),
]
REFUSED: list[tuple[Any, str]] = [
    (True, "true, yes or correct"),
    (False, "write the word"),
    ([True], "write the word"),
    (math.inf, "infinite"),
    (Decimal("Infinity"), "infinite"),
    (datetime.date(2024, 5, 1), "no single spelling"),
    (datetime.datetime(2024, 5, 1, 12), "no single spelling"),
    (datetime.time(11, 30), "no single spelling"),
    (datetime.timedelta(days=1), "no single spelling"),
    (b"\xff\xfe", "no UTF-8"),
    ([], "empty list"),
    ({}, "empty dict"),
    ({"a": None}, "empty dict"),
    ([1, 2], "no verifier compares"),
    ([0.5, "a"], "no verifier compares"),
    ([["a"], ["b"]], "no verifier compares"),
    ([{"a": math.nan}], "nan within"),
    ([{"a": b"x"}], "bytes within"),
    (1j, "complex"),
]


@pytest.mark.parametrize(("value", "text"), TEXTS)
def test_a_reference_answer_is_the_text_that_it_stands_for(value: Any, text: str | None) -> None:
    assert reference_text(value) == text


@pytest.mark.parametrize(("value", "expected"), JSON)
def test_lists_and_objects_are_the_json_that_verifiers_read(value: Any, expected: Any) -> None:
    text = reference_text(value)
    assert text is not None and json.loads(text) == expected


@pytest.mark.parametrize(("value", "reason"), REFUSED)
def test_what_has_no_single_text_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(UnreadableCellError, match=reason):
        reference_text(value)


@pytest.mark.parametrize(
    ("value", "text"), [("maths", "maths"), (3, "3"), (3.0, "3"), (math.nan, None), (["a"], "a")]
)
def test_a_name(value: Any, text: str | None) -> None:
    assert name_text(value) == text


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}, True, b"a", datetime.date(2024, 5, 1)])
def test_what_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(UnreadableCellError):
        name_text(value)
