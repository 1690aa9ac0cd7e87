"""How rows of triples or pairs are cut to a number of tokens, and what that did to a data set.

Two modes:

* `separate`: a prompt over `max_prompt_length` loses tokens at its start, after the BOS token. Then
  each response, by itself, loses its tail beyond `max_response_length` and beyond what the prompt
  leaves of `max_length`.
* `original`: the cut of the authors' public WRPO code, for comparisons. It starts when the prompt
  and its longest response exceed `max_length`. The prompt is cut to its last `max_prompt_length`
  tokens, BOS included in what is lost; where that is not enough, every response, however short, is
  cut to `max_length - max_prompt_length` tokens.

A response that is cut has no end-of-turn token: the model is not taught to stop where the cut is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MODES = ("separate", "original")

TokenIds = list[int]


@dataclass(frozen=True)
class TokenLimits:
    """Most tokens of prompt and response together, of the prompt, of a response; None is no
    limit."""

    max_length: int | None = None
    max_prompt_length: int | None = None
    max_response_length: int | None = None
    mode: str = "separate"

    def problem(self) -> str | None:
        """Why rows cannot be cut like this, or None."""
        for name in ("max_length", "max_prompt_length", "max_response_length"):
            value = getattr(self, name)
            if value is not None and value < 2:
                return f"{name} is {value}; it must be 2 or more, or null for no limit"
        if self.max_length and self.max_prompt_length and self.max_prompt_length >= self.max_length:
            return (
                f"max_prompt_length is {self.max_prompt_length} and max_length {self.max_length}, "
                "which leaves no token for a response; raise max_length"
            )
        return self._original_problem() if self.mode == "original" else None

    def _original_problem(self) -> str | None:
        for name in ("max_length", "max_prompt_length"):
            if getattr(self, name) is None:
                return f'{name} is not set, and truncation mode "original" needs it; set {name}'
        if self.max_response_length is not None:
            return (
                f"max_response_length is {self.max_response_length}, but truncation mode "
                '"original" cuts responses to max_length - max_prompt_length; leave it out'
            )
        return None

    def describe(self) -> str:
        """The limits in one line, as they are spelt in a recipe."""
        lengths = {"max_length": self.max_length, "max_prompt_length": self.max_prompt_length}
        if self.max_response_length is not None:
            lengths["max_response_length"] = self.max_response_length
        named = [f"{name}={value}" for name, value in lengths.items()]
        return ", ".join([*named, f"mode={self.mode}"])


@dataclass(frozen=True)
class CutCounts:
    """What limits did to a data set.

    `cut` counts the rows in which the prompt or a response lost tokens, by name, and `rows_cut` the
    rows in which any did; `dropped` counts the rows that are left no response, because the prompt
    alone fills `max_length`, and `equal` those in which a preferred and the rejected response are
    equal once they are cut. Neither is trained on, nor counted as cut.
    """

    rows: int
    rows_cut: int
    cut: dict[str, int]
    dropped: int
    equal: int = 0

    def describe(self, name: str, limits: TokenLimits) -> list[str]:
        """One sentence for what was dropped and one for what was cut; nothing when nothing was."""
        lines = []
        if self.dropped:
            lines.append(
                f"{name}: {self.dropped} of {self.rows} rows are not trained on, because the "
                f"prompt alone fills max_length={limits.max_length}"
            )
        if self.equal:
            lines.append(
                f"{name}: {self.equal} of {self.rows} rows are not trained on, because a preferred "
                f"and the rejected response are equal once they are cut to {limits.describe()}"
            )
        if self.rows_cut:
            parts = ", ".join(f"{part} {count}" for part, count in self.cut.items())
            lines.append(
                f"{name}: {self.rows_cut} of {self.rows} rows are cut to {limits.describe()} "
                f"({parts})"
            )
        return lines


def cut(
    prompt: TokenIds, responses: Mapping[str, TokenIds], limits: TokenLimits, *, bos: int | None
) -> tuple[TokenIds, dict[str, TokenIds]]:
    """Prompt and responses within the limits; empty responses where the prompt fills `max_length`.

    Args:
        responses: token ids by name. Mode `original` looks at the longest, so it has to see all.
        bos: id of the BOS token, which `separate` keeps.
    """
    if limits.mode == "original":
        return _cut_original(prompt, responses, limits)
    prompt = _cut_start(prompt, limits.max_prompt_length, bos)
    room = _smaller(limits.max_response_length, _left(limits.max_length, len(prompt)))
    return prompt, {name: ids[:room] for name, ids in responses.items()}


def count_cuts(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> CutCounts:
    """Counts over prepared rows, of which `cut_tokens`, `cut_equal` and `rejected_ids` are read.

    Args:
        names: what `cut_tokens` of a row is about, in order.
    """
    kept = [row["cut_tokens"] for row in rows if row["rejected_ids"]]
    equal = sum(bool(row["cut_equal"]) for row in rows)
    return CutCounts(
        rows=len(rows),
        rows_cut=sum(any(tokens) for tokens in kept),
        cut={name: sum(tokens[i] > 0 for tokens in kept) for i, name in enumerate(names)},
        dropped=len(rows) - len(kept) - equal,
        equal=equal,
    )


def _cut_original(
    prompt: TokenIds, responses: Mapping[str, TokenIds], limits: TokenLimits
) -> tuple[TokenIds, dict[str, TokenIds]]:
    whole, most = limits.max_length, limits.max_prompt_length
    assert whole is not None and most is not None, limits.problem()
    longest = max(len(ids) for ids in responses.values())
    if len(prompt) + longest > whole:
        prompt = prompt[-most:]
    if len(prompt) + longest > whole:
        return prompt, {name: ids[: whole - most] for name, ids in responses.items()}
    return prompt, dict(responses)


def _cut_start(prompt: TokenIds, most: int | None, bos: int | None) -> TokenIds:
    if most is None or len(prompt) <= most:
        return prompt
    head = prompt[:1] if prompt[0] == bos else []
    return head + prompt[len(prompt) - (most - len(head)) :]


def _left(whole: int | None, used: int) -> int | None:
    return None if whole is None else max(0, whole - used)


def _smaller(left: int | None, right: int | None) -> int | None:
    known = [limit for limit in (left, right) if limit is not None]
    return min(known, default=None)
