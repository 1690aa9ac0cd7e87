"""The target sits an exam: which option it finds likeliest. A heavy import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_construction.exams.questions import LETTERS, ExamQuestion
from wrpo.chat.render import render_responses
from wrpo.chat.tokenizer import load_chat_tokenizer
from wrpo.prefix.logprobs import LogProbPass
from wrpo.recipe import Recipe
from wrpo.recipe.consistency import Consistency
from wrpo.training.common import load_policy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EXAMPLES = (
    ("Which of these is a colour?", ("stone", "green", "seven", "slow"), 1),
    ("How many days has a week?", ("five", "twelve", "seven", "ten"), 2),
    ("What do bees make?", ("honey", "milk", "salt", "paper"), 0),
    ("What is the opposite of hot?", ("round", "loud", "late", "cold"), 3),
    ("Which animal barks?", ("the fish", "the dog", "the owl", "the ant"), 1),
)
"""Questions with their answers that come before the asked one, in the form that letters need."""


class Examinee:
    """The target before SFT.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, recipe: Recipe, settings: Consistency) -> None:
        self._settings = settings
        self._tokenizer = load_chat_tokenizer(recipe.target.model, recipe.target)
        self._fold_system = recipe.target.fold_system
        self._score = LogProbPass(
            load_policy(recipe.target.model, recipe.target),
            pad_token_id=self._tokenizer.pad_token_id,
            batch_tokens=recipe.logprobs.engine.batch_tokens,
            max_length=settings.max_length,
        )

    def answers(self, questions: Sequence[ExamQuestion]) -> list[int]:
        """The place of the option that it takes, of each question; of equal ones the first."""
        if self._settings.answer_by == "letters":
            rows = [
                letter_ids(self._tokenizer, one, self._settings.max_length) for one in questions
            ]
            lengths = [[1.0] * len(LETTERS) for _ in questions]
        else:
            rows = [self._option_ids(one) for one in questions]
            lengths = [[float(len(o.encode())) for o in one.options] for one in questions]
        names = list(LETTERS)
        scores = self._score(rows, names)
        found = []
        for said, length in zip(scores, lengths, strict=True):
            means = [said[name].logp / size for name, size in zip(names, length, strict=True)]
            found.append(max(range(len(names)), key=lambda n, of=means: of[n]))  # type: ignore[misc]
        return found

    def _option_ids(self, question: ExamQuestion) -> dict[str, Any]:
        messages = [{"role": "user", "content": question.text}]
        prompt, responses = render_responses(
            self._tokenizer, messages, question.options, fold_system=self._fold_system
        )
        named = zip(LETTERS, responses, strict=True)
        return {"prompt_ids": prompt, **{f"{letter}_ids": ids for letter, ids in named}}


def letter_ids(
    tokenizer: PreTrainedTokenizerBase, question: ExamQuestion, max_length: int
) -> dict[str, Any]:
    """Ids of the examples and the question, and of each letter behind them.

    Letters are whole continuations: where two of them share a token, or the space before them is a
    token of its own, they are compared all the same.

    Args:
        max_length: examples are left out, the first one first, until all fits.
    """
    for first in range(len(EXAMPLES) + 1):
        shown = [as_question(*example) + f" {LETTERS[example[2]]}" for example in EXAMPLES[first:]]
        text = "\n\n".join([*shown, as_question(question.text, question.options)])
        whole = [tokenizer.encode(f"{text} {letter}", verbose=False) for letter in LETTERS]
        whole = [_without_end(tokenizer, ids) for ids in whole]
        if max(map(len, whole)) <= max_length:
            break
    shared = next(n for n, ids in enumerate(zip(*whole, strict=False)) if len(set(ids)) > 1)
    named = {f"{letter}_ids": ids[shared:] for letter, ids in zip(LETTERS, whole, strict=True)}
    return {"prompt_ids": whole[0][:shared][-max_length:], **named}


def _without_end(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Some tokenizers end every text with EOS."""
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def as_question(text: str, options: Sequence[str], right: int | None = None) -> str:
    """A question with its options, up to where the letter comes."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n".join([f"Question: {text}", *lines, "Answer:"])
