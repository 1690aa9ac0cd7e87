"""PsyCoT (arXiv 2310.20256): a judge fills in a questionnaire about an author, then chooses.

One conversation per text and trait: the text, then one turn per statement, with the earlier ratings
in context, and last the choice between high and low. The judge makes the choice; ratings are not
summed for it. Both are reported, the choice in both orders of its options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.personality.asking import CountedReplies
from eval.personality.items import HIGH, LOW, Item, by_trait, keyed_mean
from wrpo.judging import JudgeRequest
from wrpo.judging.questions import template_name
from wrpo.judging.reading import grade_form, label_form

AUTHOR = """\
Read what somebody has written, and answer questions about the author from it alone.
<text>
{text}
</text>"""

RATE = """\
How well does this fit the author: "The author {item}." Reply with a number from 1 (not at all) to \
5 (entirely) in double square brackets, like [[{example}]]."""

CHOOSE = """\
From all this, the author's {trait} is:
A: {first}
B: {second}
Reply with the letter in double square brackets, like [[{example}]]."""

MOST_CHARACTERS = 12_800
"""Longer texts are cut, as the authors cut at 3,200 tokens."""

_CHOICE = label_form({"A": 1.0, "B": 2.0})
_RATING = grade_form(LOW, HIGH)


@dataclass
class Profile:
    """What a judge says of one trait of one author.

    Attributes:
        high: the choice; None where the two orders of the options disagree, or one is missing.
        by_order: the choice with "high" first, and with "low" first.
        ratings: those that could be read.
    """

    trait: str
    ratings: dict[Item, float] = field(default_factory=dict)
    by_order: tuple[bool | None, bool | None] = (None, None)

    @property
    def high(self) -> bool | None:
        first, second = self.by_order
        return first if first == second else None

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        ratings = {item.text: rating for item, rating in self.ratings.items()}
        mean = keyed_mean(self.ratings)
        return {"high": self.high, "orders": self.by_order, "mean": mean, "ratings": ratings}


def fill_in(
    texts: Sequence[str], items: Sequence[Item], replies: CountedReplies
) -> list[dict[str, Profile]]:
    """The profile of each author, by trait; all authors and traits at once, turn by turn."""
    chats: list[tuple[int, Profile, list[Item], list[dict[str, str]]]] = []
    profiles: list[dict[str, Profile]] = []
    for number, text in enumerate(texts):
        own = {trait: Profile(trait) for trait in by_trait(items)}
        profiles.append(own)
        for trait, asked in by_trait(items).items():
            opening = AUTHOR.format(text=text[:MOST_CHARACTERS])
            chats.append((number, own[trait], asked, [{"role": "system", "content": opening}]))
    for turn in range(max((len(asked) for _, _, asked, _ in chats), default=0)):
        open_ = [chat for chat in chats if turn < len(chat[2])]
        for _, _, asked, messages in open_:
            said = RATE.format(item=asked[turn].text, example="2")
            messages.append({"role": "user", "content": said})
        requests = [_request("psycot-rate", RATE, messages) for *_, messages in open_]
        read = replies.read(requests, _RATING)
        for (_, profile, asked, messages), (rating, reply) in zip(open_, read, strict=True):
            if rating is not None:
                profile.ratings[asked[turn]] = rating
            messages.append({"role": "assistant", "content": reply or "-"})
    _choose(chats, replies)
    return profiles


def _choose(
    chats: Sequence[tuple[int, Profile, list[Item], list[dict[str, str]]]], replies: CountedReplies
) -> None:
    orders = []
    for first, second in (("high", "low"), ("low", "high")):
        requests = []
        for _, profile, _, messages in chats:
            said = CHOOSE.format(trait=profile.trait, first=first, second=second, example="B")
            asked = [*messages, {"role": "user", "content": said}]
            requests.append(_request("psycot-choose", CHOOSE, asked))
        read = replies.read(requests, _CHOICE)
        high = 1.0 if first == "high" else 2.0
        orders.append([None if choice is None else choice == high for choice, _ in read])
    for (_, profile, _, _), *chosen in zip(chats, *orders, strict=True):
        profile.by_order = chosen[0], chosen[1]


def _request(kind: str, template: str, messages: Sequence[dict[str, str]]) -> JudgeRequest:
    return JudgeRequest(list(messages), template=template_name(kind, template))
