"""Layouts of tests, each as the dataset that made it known has it.

- Python code with assertions, or a JSON list of such codes.
- A JSON list of `{"stdin", "stdout"}`.
- HumanEval: `{"test", "entry_point"}`; `prompt` and `canonical_solution` are its own solution.
- MBPP: `{"test_list"}` with `test_setup_code`, `test_imports` and `challenge_test_list` where there
  are any; `code` is its own solution.
- APPS, TACO: `{"inputs", "outputs"}`, with `fn_name` for calls of a function; or such an object as
  `{"input_output"}`. Their solutions are those of users, some in Python 2, and not read.
- LiveCodeBench: a list of `{"input", "output", "testtype"}`, or the columns
  `{"public_test_cases", "private_test_cases", "metadata"}`, whose `func_name` is for calls.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from wrpo.rewards.programs.assertions import read_test_code
from wrpo.rewards.programs.cases import Assertions, Call, Case, Printed

_MAX_BYTES = 256 << 20
"""Of compressed tests, unpacked."""
_FORMS = (
    'expected Python code with assertions, a JSON list of such codes or of {"stdin", "stdout"}, or '
    "the columns of HumanEval, MBPP, APPS or LiveCodeBench as a JSON object"
)


@dataclass(frozen=True, slots=True)
class Tests:
    """The tests of a prompt, and the dataset's own solution where it has one."""

    __test__ = False

    cases: list[Case]
    solution: str | None = None


def read_tests(reference_answer: str) -> Tests:
    """The tests that a reference answer holds.

    Raises:
        ValueError: it holds none, or some that no program could fail or pass.
    """
    if not reference_answer.strip():
        raise ValueError(f"the tests are empty; {_FORMS}")
    value = _parsed(reference_answer)
    if isinstance(value, list):
        return Tests(_of_list(value))
    if isinstance(value, dict):
        for keys, read in _OBJECTS.items():
            if value.keys() >= set(keys):
                return read(value)
        raise ValueError(f"an object with {_keys(value)}; {_FORMS}")
    return Tests([Assertions(read_test_code(reference_answer))])


def _parsed(text: str) -> object:
    """The value of JSON, or the text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise ValueError(f"the JSON is nested too deeply; {_FORMS}") from None


def _of_list(items: list[Any], function: str | None = None) -> list[Case]:
    if not items:
        raise ValueError(f"a list without tests; {_FORMS}")
    return [_of_item(item, function) for item in items]


def _of_item(item: object, function: str | None) -> Case:
    if isinstance(item, str):
        return Assertions(read_test_code(item))
    if isinstance(item, dict) and item.keys() == {"stdin", "stdout"}:
        return Printed(_text(item, "stdin"), _text(item, "stdout"))
    if isinstance(item, dict) and item.keys() >= {"input", "output"}:
        return _of_livecodebench(item, function)
    raise ValueError(f"{str(item)[:80]!r} is no test; {_FORMS}")


def _of_livecodebench(item: dict[str, Any], function: str | None) -> Case:
    kind = item.get("testtype", "functional" if function else "stdin")
    if kind == "stdin":
        return Printed(_text(item, "input"), _text(item, "output"))
    if kind != "functional":
        raise ValueError(f"testtype {kind!r}; known are 'stdin' and 'functional'")
    function = _func_name(item) or function
    if function is None:
        raise ValueError("functional tests without metadata.func_name, the function to call")
    arguments = [json.loads(line) for line in _text(item, "input").split("\n") if line.strip()]
    return Call(function, arguments, [json.loads(_text(item, "output"))])


def _humaneval(value: dict[str, Any]) -> Tests:
    test, entry = _text(value, "test"), _text(value, "entry_point")
    if not entry.isidentifier():
        raise ValueError(f"entry_point {entry!r} is no name of a function")
    called = f"{test}\n\ncheck({entry})\n" if "def check(" in test else test
    solution = None
    if value.get("canonical_solution"):
        solution = f"{value.get('prompt') or ''}{value['canonical_solution']}"
    return Tests([Assertions(read_test_code(called), frozenset({entry}))], solution)


def _mbpp(value: dict[str, Any]) -> Tests:
    setup = [*_strings(value, "test_imports"), str(value.get("test_setup_code") or "")]
    listed = [*_strings(value, "test_list"), *_strings(value, "challenge_test_list")]
    if not listed:
        raise ValueError("test_list is empty")
    codes = (read_test_code("\n".join([*setup, test])) for test in listed)
    return Tests([Assertions(code) for code in codes], value.get("code") or None)


def _apps(value: dict[str, Any]) -> Tests:
    inputs, outputs = _list(value, "inputs"), _list(value, "outputs")
    if not inputs or len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    function = value.get("fn_name")
    if not function:
        return Tests(
            [Printed(_joined(a), _joined(b)) for a, b in zip(inputs, outputs, strict=True)]
        )
    return Tests([_apps_call(function, a, b) for a, b in zip(inputs, outputs, strict=True)])


def _apps_call(function: str, arguments: Any, value: Any) -> Call:
    if not isinstance(arguments, list):
        raise ValueError(f"an input of {function} is no list of arguments")
    # APPS wraps the values of some functions in a list, and its own judge takes either.
    wrapped = isinstance(value, list) and value
    return Call(function, arguments, [value, value[0]] if wrapped else [value])


def _apps_columns(value: dict[str, Any]) -> Tests:
    tests = _parsed_text(value["input_output"], "input_output")
    if not isinstance(tests, dict) or not tests.keys() >= {"inputs", "outputs"}:
        raise ValueError("input_output has no inputs and outputs")
    return _apps(tests)


def _livecodebench(value: dict[str, Any]) -> Tests:
    items = [
        item
        for key in ("public_test_cases", "private_test_cases")
        for item in _unpacked(value.get(key) or "[]", key)
    ]
    return Tests(_of_list(items, _func_name(value)))


_OBJECTS: dict[tuple[str, ...], Callable[[dict[str, Any]], Tests]] = {
    ("test", "entry_point"): _humaneval,
    ("test_list",): _mbpp,
    ("inputs", "outputs"): _apps,
    ("input_output",): _apps_columns,
    ("public_test_cases",): _livecodebench,
    ("private_test_cases",): _livecodebench,
}


class _OnlyText(pickle.Unpickler):
    """Reads pickled texts and numbers; whatever would import something is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} in tests")


def _unpacked(value: object, key: str) -> list[Any]:
    """Tests as a list, as JSON, or as LiveCodeBench packs it: base64 of zlib of a pickled JSON."""
    if isinstance(value, str):
        packed = value
        try:
            value = json.loads(packed)
        except ValueError:
            value = json.loads(_text_of_pickle(packed, key))
    if not isinstance(value, list):
        raise ValueError(f"{key} is no list of tests")
    return value


def _text_of_pickle(value: str, key: str) -> str:
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(value, validate=True), _MAX_BYTES)
        text = _OnlyText(io.BytesIO(content)).load()
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(f"{key} is neither JSON nor packed tests ({error})") from None
    if unpacker.unconsumed_tail or not isinstance(text, str):
        raise ValueError(f"{key} holds no text, or more than {_MAX_BYTES >> 20} MiB")
    return text


def _func_name(value: dict[str, Any]) -> str | None:
    """The function to call, of LiveCodeBench's metadata."""
    metadata = value.get("metadata") or {}
    if isinstance(metadata, str):
        metadata = _parsed_text(metadata, "metadata")
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    return name or value.get("func_name") or value.get("fn_name") or None


def _parsed_text(value: object, key: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key} is no JSON ({error})") from None


def _text(value: dict[str, Any], key: str) -> str:
    if not isinstance(value[key], str):
        raise ValueError(f"{key} is no text: {str(value[key])[:80]!r}")
    return value[key]


def _list(value: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(value[key], list):
        raise ValueError(f"{key} is no list: {str(value[key])[:80]!r}")
    return value[key]


def _strings(value: dict[str, Any], key: str) -> list[str]:
    """A list of texts that may be missing."""
    items = value.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"{key} is no list of texts: {str(items)[:80]!r}")
    return items


def _joined(value: object) -> str:
    """An input or output of APPS: a text, or a list of lines."""
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(value)


def _keys(value: dict[str, Any]) -> str:
    return ", ".join(sorted(value)[:8]) or "no columns"
