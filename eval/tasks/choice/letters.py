"""Multiple-choice questions, and the letter that an answer ends with."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

LETTERS = "ABCDEFGHIJ"

# "The best answer is I think B" names B, if any.
_LETTER = r"(?:[A-HJ]\b|I\b(?!\s+[a-z]))"
_OPENING = r":?[\s*(\[{$]*"
# A small letter only before a sign that ends it: "the best answer is a matter of taste" is none.
_STRICT = re.compile(rf"(?i:best answer is){_OPENING}({_LETTER}|[a-j](?=[.)*\]$}}]))")
_FLEXIBLE = (
    re.compile(rf"answer is{_OPENING}({_LETTER})"),
    re.compile(rf"\\boxed\{{\s*(?:\\text\{{)?\(?({_LETTER})"),
    re.compile(rf"[Aa]nswer:[\s*(\[{{$]*({_LETTER})"),
    re.compile(r"(?:^|[\s*(\[$])([A-J])[\s*).\]$]*\Z"),
)


def load_mmlu_redux(**_: Any) -> dict[str, Dataset]:
    """All subjects of MMLU-redux-2.0 in one table."""
    from datasets import concatenate_datasets, get_dataset_config_names, load_dataset

    path = "edinburgh-dawg/mmlu-redux-2.0"
    subjects = sorted(get_dataset_config_names(path))
    return {"test": concatenate_datasets([load_dataset(path, s, split="test") for s in subjects])}


def mmlu_pro_documents(documents: Dataset) -> Dataset:
    """Adds `letter`."""
    return documents.map(lambda row: {"letter": row["answer"]})


def mmlu_redux_documents(documents: Dataset) -> Dataset:
    """The questions that its annotators found right, with `options` and `letter`."""
    right = documents.filter(lambda row: row["error_type"] == "ok")
    return right.map(lambda row: {"options": row["choices"], "letter": LETTERS[row["answer"]]})


def gpqa_documents(documents: Dataset) -> Dataset:
    """Adds `question`, shuffled `options` and `letter`.

    The order is seeded by the question, so it is the same in every run and on every machine.
    """
    return documents.map(_gpqa_document)


def question(document: dict[str, Any]) -> str:
    """The prompt in the style of the Llama evaluations."""
    options = zip(LETTERS, document["options"], strict=False)
    return "\n".join(
        [
            "Given the following question and candidate answers, choose the best answer.",
            f"Question: {document['question'].strip()}",
            *(f"{letter}. {option.strip()}" for letter, option in options),
            "",
            'Your response should end with "The best answer is [the_answer_letter]." where the '
            "[the_answer_letter] is a letter from the provided choices.",
            "",
            "Let's think step by step.",
        ]
    )


def strict(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """The letter of the last "best answer is X"."""
    return [[_last(_STRICT, answer) or "" for answer in group] for group in answers]


def flexible(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """The letter of the last "answer is X", else of a box, of "Answer: X", or at the very end."""
    return [[_flexible(answer) for answer in group] for group in answers]


def _flexible(answer: str) -> str:
    text = answer.rstrip()
    return next((letter for p in _FLEXIBLE if (letter := _last(p, text))), "")


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.findall(text)
    return found[-1].upper() if found else None


def _gpqa_document(row: dict[str, Any]) -> dict[str, Any]:
    right = row["Correct Answer"].strip()
    options = [right, *(row[f"Incorrect Answer {number}"].strip() for number in (1, 2, 3))]
    random.Random(row["Question"]).shuffle(options)
    return {
        "question": row["Question"],
        "options": options,
        "letter": LETTERS[options.index(right)],
    }
