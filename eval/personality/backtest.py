"""PsyPlay's back-test (arXiv 2502.03821): does a judge find the traits that a speaker was given?

A dialogue passes where every given trait of every speaker is found. Prompts and code of the authors
are not known to us; the words here are this toolkit's own. Two numbers come with the rate: what the
same verdicts get against the cards of the other speakers, and what guessing gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.personality.asking import CountedReplies
from wrpo.errors import DataError
from wrpo.judging import JudgeRequest
from wrpo.judging.questions import fill, template_name
from wrpo.judging.reading import label_form

BACKTEST = """\
Read this dialogue.
<dialogue-{{tag}}>
{{dialogue}}
</dialogue-{{tag}}>
Judge from what {{speaker}} says, and how: is the {{trait}} of {{speaker}} {{first}} or \
{{second}}, or does the dialogue not tell? Reply with one word in double square brackets: \
[[{{first}}]], [[{{second}}]] or [[unknown]]."""

_FORM = label_form({"high": 1.0, "low": -1.0, "unknown": 0.0})

FoundTraits = dict[tuple[str, str], int | None]
"""By speaker and trait: 1 high, -1 low, 0 not told, or the orders disagree; None: unread."""


@dataclass(frozen=True)
class Rates:
    """Shares of dialogues that pass.

    Attributes:
        success: of all.
        swapped: with the cards given to the next speaker of the same dialogue; no more than chance
            where the judge reads the speakers, and not the cards.
        guess: expected of a judge that says high or low by the toss of a coin.
        undetermined: share of traits of which the dialogue does not tell.
    """

    success: float
    swapped: float
    guess: float
    undetermined: float


def back_test(dialogues: Sequence[Mapping[str, Any]], replies: CountedReplies) -> list[FoundTraits]:
    """What a judge finds in each dialogue; each trait is asked for in both orders of its options.

    Args:
        dialogues: {cards: [{name, traits: {TRAIT: number}}], turns: [{speaker, text}]}; above 0 is
            high, below is low. One that has `failed` is not asked about.

    Raises:
        DataError: a dialogue has another form.
    """
    places = [
        (number, speaker, trait)
        for number, dialogue in enumerate(dialogues)
        if not dialogue.get("failed")
        for speaker, trait, _ in given_traits(dialogue)
    ]
    orders = []
    for first, second in (("high", "low"), ("low", "high")):
        requests = [
            _request(dialogues[number], speaker, trait, first=first, second=second)
            for number, speaker, trait in places
        ]
        orders.append([value for value, _ in replies.read(requests, _FORM)])
    found: list[FoundTraits] = [{} for _ in dialogues]
    for (number, speaker, trait), one, other in zip(places, *orders, strict=True):
        unread = one is None or other is None
        found[number][speaker, trait] = None if unread else int(one if one == other else 0)
    return found


def given_traits(dialogue: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Speaker, trait, and 1 for high or -1 for low, of all cards.

    Raises:
        DataError: the dialogue has another form.
    """
    try:
        for card in dialogue["cards"]:
            for trait, strength in card["traits"].items():
                if strength:
                    yield str(card["name"]), str(trait), 1 if strength > 0 else -1
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"a dialogue needs cards: [{{name, traits: {{TRAIT: 2}}}}] and turns: "
            f"[{{speaker, text}}]; this one has not ({error!r}): {str(dialogue)[:200]}"
        ) from None


def passes(dialogue: Mapping[str, Any], found: FoundTraits, *, swap: bool = False) -> bool:
    """Whether every given trait is found; unread ones and those that are not told are not.

    A dialogue that `failed` before its end does not pass.

    Args:
        swap: hold the verdicts on each speaker against the card of the next one.
    """
    if dialogue.get("failed"):
        return False
    given = list(given_traits(dialogue))
    names = list(dict.fromkeys(speaker for speaker, _, _ in given))
    other = dict(zip(names, [*names[1:], *names[:1]], strict=True)) if swap else {}
    return all(found.get((other.get(name, name), trait)) == sign for name, trait, sign in given)


def rates(dialogues: Sequence[Mapping[str, Any]], found: Sequence[FoundTraits]) -> Rates:
    """The rate with its two controls."""
    count = max(1, len(dialogues))
    pairs = list(zip(dialogues, found, strict=True))
    traits = [value for one in found for value in one.values()]
    tested = [dialogue for dialogue in dialogues if not dialogue.get("failed")]
    return Rates(
        success=sum(passes(d, one) for d, one in pairs) / count,
        swapped=sum(passes(d, one, swap=True) for d, one in pairs) / count,
        guess=sum(0.5 ** len(list(given_traits(d))) for d in tested) / count,
        undetermined=sum(value == 0 for value in traits) / max(1, len(traits)),
    )


def _request(
    dialogue: Mapping[str, Any], speaker: str, trait: str, *, first: str, second: str
) -> JudgeRequest:
    try:
        lines = [f"{turn['speaker']}: {turn['text']}" for turn in dialogue["turns"]]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"turns: needs [{{speaker, text}}] ({error!r}): {str(dialogue)[:200]}"
        ) from None
    values = {"dialogue": "\n".join(lines), "speaker": speaker, "trait": trait}
    content = fill(BACKTEST, {**values, "first": first, "second": second})
    messages = [{"role": "user", "content": content}]
    return JudgeRequest(messages, template=template_name("back-test", BACKTEST))
