"""SocialBench (RoleInteract, arXiv 2403.13679): role cards, a dialogue, and which reply fits.

Its parser takes any capital letter from A to H for an answer, so that "A good reply is C" names two
and "BD" is right where B is. `upstream` counts so, to compare with published numbers; `strict`
takes explicit forms only. Each question is asked twice, the second time with its options reversed.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.errors import DataError, MissingInputError
from wrpo.files import is_file, is_folder

if TYPE_CHECKING:
    from datasets import Dataset

DATA = "SOCIALBENCH_DATA"
"""Environment variable: a file of records, or a folder of such files."""

LETTERS = "ABCDEFGH"
MEMORY = "Individual-MEM"
"""The category whose answers are texts with keywords."""

_PROFILE_LINES = 10
_UPSTREAM = re.compile(r"\b[A-H]\b")
# Repetitions have an upper bound, so that no text takes a pattern longer than its length asks for.
_LETTER = r"[(\[*]{0,4}[A-H][)\]*.]{0,4}"
_LIST = rf"{_LETTER}(?:(?:\s{{0,5}}(?:,|and|&)\s{{0,5}}|\s{{1,5}}){_LETTER}){{0,8}}"
_INDENT = r"(?m)^[^\S\n]{0,20}"
_EXPLICIT = (
    re.compile(
        r"(?i:(?:answers?|choices?)(?:\s{1,5}(?:is|are))?)\s{0,5}[:=]?\s{0,5}"
        rf"({_LIST})(?!\w)"
    ),
    re.compile(rf"{_INDENT}({_LIST})[^\S\n]{{0,20}}$"),
    re.compile(rf"{_INDENT}([(\[*]{{0,4}}[A-H][)\].]{{1,4}})(?=\s)"),
    re.compile(r"(?<!\w)([(\[][A-H][)\]])"),
)


def load(*, category: str, **_: object) -> dict[str, Dataset]:
    """The questions of one category, each with its options in both orders.

    Raises:
        MissingInputError: `$SOCIALBENCH_DATA` is not set, or names nothing.
        DataError: a record has another form, or there are none of the category.
    """
    from datasets import Dataset

    found = [record for record in records() if _category(record) == category]
    if not found:
        raise DataError(f"${DATA} ({os.environ[DATA]}) has no record of category {category}")
    made = [document(record, reverse=reverse) for reverse in (False, True) for record in found]
    return {"test": Dataset.from_list(made if category != MEMORY else made[: len(found)])}


def records() -> Iterator[dict[str, Any]]:
    """All records of the user's files.

    Raises:
        MissingInputError: `$SOCIALBENCH_DATA` is not set, or names nothing.
        DataError: a file holds no list of records.
    """
    place = Path(os.environ.get(DATA, ""))
    files = sorted(place.glob("**/*.json")) if os.environ.get(DATA) and is_folder(place) else []
    files = [place] if not files and is_file(place) else files
    if not files:
        raise MissingInputError(
            f"SocialBench's data are not part of this toolkit; get them from their authors "
            f"(github.com/X-PLUG/SocialBench) and name file or folder: export {DATA}=..."
        )
    for file in files:
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file}: no JSON: {error}") from None
        if not isinstance(read, list) or not all(isinstance(record, dict) for record in read):
            raise DataError(f"{file}: holds no list of records")
        yield from read


def _category(record: Mapping[str, Any]) -> str | None:
    meta = record.get("meta")
    return meta.get("category") if isinstance(meta, dict) else None


def document(record: Mapping[str, Any], *, reverse: bool) -> dict[str, Any]:
    """A record as a row: every category has the same columns.

    Args:
        reverse: the options in the other order; the letters of the label move with them.

    Raises:
        DataError: the record lacks a part.
    """
    try:
        choices = {k: v for k, v in (record.get("choices") or {}).items() if v is not None}
        label = record["label"] if isinstance(record["label"], list) else [record["label"]]
        given = [str(choices[letter]) for letter in choices]
        order = list(range(len(given)))[:: -1 if reverse else 1]
        place = {old: LETTERS[new] for new, old in enumerate(order)}
        names = list(choices)
        target = (
            sorted(place[names.index(one)] for one in label) if choices else list(map(str, label))
        )
        return {
            "question": question(record, [given[old] for old in order]),
            "options": len(given),
            "target": target,
            "category": str(record["meta"]["category"]),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"SocialBench record of another form ({error!r}): {str(record)[:200]}"
        ) from None


def question(record: Mapping[str, Any], options: Sequence[str]) -> str:
    """The prompt; its frame is this toolkit's own words."""
    meta = record["meta"]
    profile = meta.get("profile") or {}
    cards = profile if isinstance(profile, dict) else {str(meta.get("name", "")): str(profile)}
    parts = [
        f"Profile of {name}:\n" + "\n".join(str(card).splitlines()[:_PROFILE_LINES])
        for name, card in cards.items()
    ]
    lines = [f"{turn['from']}: {turn['value']}" for turn in record["dialogue"]]
    parts.append("Dialogue:\n" + "\n".join(lines))
    parts.append(str(record.get("instruction") or "Which option fits best?"))
    if options:
        listed = zip(LETTERS, options, strict=False)
        parts.append("\n".join(f"{letter}. {option}" for letter, option in listed))
        parts.append(
            "Reply with the letter of the right option, or the letters if several are right."
        )
    return "\n\n".join(parts)


def score(document: Mapping[str, Any], answers: list[str]) -> dict[str, float]:
    """`strict`, `upstream`, whether nothing could be read, and what uniform guessing gets."""
    answer, target = answers[0], list(document["target"])
    if document["category"] == MEMORY:
        hits = sum(keyword.lower() in answer.lower() for keyword in target)
        share = hits / max(1, len(target))
        return {
            "strict": share,
            "upstream": share,
            "unparsed": float(not answer.strip()),
            "guess": 0.0,
        }
    read = explicit(answer)
    return {
        "strict": credit(read, target) if len(target) > 1 or len(read) == 1 else 0.0,
        "upstream": upstream(answer, target),
        "unparsed": float(not read),
        "guess": guess_level(int(document["options"]), target),
    }


def explicit(answer: str) -> list[str]:
    """The letters of the last explicit form: "C", "(C)", "C." or "the answer is C, D"."""
    found = [(m.end(1), m[1]) for pattern in _EXPLICIT for m in pattern.finditer(answer)]
    if not found:
        return []
    end = max(found)[0]
    longest = max((text for at, text in found if at == end), key=len)
    return sorted(set(re.findall(r"[A-H]", longest)))


def upstream(answer: str, target: Sequence[str]) -> float:
    """As the published parser: the first letter of one-letter questions, all letters of others."""
    read = _UPSTREAM.findall(answer) or re.findall(r"[A-H]", answer)
    if not read:
        return 0.0
    return float(read[0] == target[0]) if len(target) == 1 else credit(read, target)


def credit(read: Sequence[str], target: Sequence[str]) -> float:
    """Share of the right letters; 0 where a wrong one is among those that are read."""
    if not read or set(read) - set(target):
        return 0.0
    return len(set(read)) / len(target)


def guess_level(options: int, target: Sequence[str]) -> float:
    """The expected credit of a uniform guess: among options, or among all sets of options."""
    letters = LETTERS[:options]
    if len(target) == 1:
        return 1 / max(1, options)
    sets = [s for n in range(1, options + 1) for s in itertools.combinations(letters, n)]
    return sum(credit(one, target) for one in sets) / len(sets)
