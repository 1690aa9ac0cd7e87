"""A response that several models write word by word: Cool-Fusion's loop. A heavy import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from tokenizers.decoders import DecodeStream
from transformers import DynamicCache

from wrpo.engines.fusion.boundaries import word_cuts
from wrpo.engines.fusion.member import FusionMember
from wrpo.engines.fusion.rule import Surprise, likeliest, mean_surprise, text_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from wrpo.chat.template import Messages
    from wrpo.recipe.fusions import ModelFusion

_LONGEST = 64
"""Tokens after which a segment ends without a boundary; texts without spaces have none."""


class WordSegment(NamedTuple):
    """What one model would write next.

    Attributes:
        tokens: of its writer, that it takes; the next word's first one is not among them.
        ends: whether the response ends with it.
    """

    text: str
    tokens: int
    ends: bool


class WrittenTogether(NamedTuple):
    """A fused response; `tokens` are those of the writers of its segments."""

    text: str
    tokens: int
    finished: bool


class SharedText:
    """One model's view of a text that grows: its ids, and the cache of what it has read.

    The text is encoded whole each time, and the cache keeps the ids that stay, so that nothing
    depends on how the text grew.
    """

    def __init__(self, member: FusionMember, messages: Messages) -> None:
        self._member = member
        self._prompt = member.prompt_ids(messages)
        self._text = ""
        self._ids = list(self._prompt)
        self._seen: list[int] = []
        self._cache = DynamicCache()  # without a config, sliding windows keep all, and can be cut

    @property
    def text(self) -> str:
        """What is written so far."""
        return self._text

    def encoded(self, text: str) -> list[int]:
        """The ids of prompt and response, if the response were this text."""
        return self._prompt + self._member.text_ids(text)

    def append(self, text: str) -> None:
        """All models take the segment that was chosen."""
        self._text += text
        self._ids = self.encoded(self._text)

    @torch.inference_mode()
    def next_segment(self, room: int, accepts: Callable[[str, int], bool]) -> WordSegment | None:
        """The shortest greedy continuation that ends where a word does; None: no text comes.

        Args:
            room: most tokens.
            accepts: says of a continuation and a place in it whether it may end there.
        """
        stream = DecodeStream(ids=self._ids, skip_special_tokens=True)
        backend = self._member.tokenizer.backend_tokenizer
        ids, ends_at, text = list(self._ids), [0], ""
        refused = 0
        for _ in range(min(room, _LONGEST)):
            token = int(self._logits(ids, len(ids) - 1)[-1].argmax())
            if token in self._member.stops:
                return WordSegment(text, len(ends_at), ends=True)
            ids.append(token)
            text += stream.step(backend, token) or ""
            for cut in word_cuts(text):
                if cut > refused and accepts(text, cut):
                    taken = next(n for n, end in enumerate([*ends_at, len(text)]) if end >= cut)
                    return WordSegment(text[:cut], taken, ends=False)
                refused = max(refused, cut)
            ends_at.append(len(text))
        return WordSegment(text, len(ends_at) - 1, ends=False) if text else None

    @torch.inference_mode()
    def surprise(self, segment: WordSegment) -> Surprise:
        """What the model says of a segment: how much less likely it makes the whole text.

        A segment may change how the end of the text before it is encoded. Then the log-prob of the
        old ending is subtracted from that of the new one.
        """
        new = self.encoded(self._text + segment.text)
        new += [self._member.end_of_turn] if segment.ends else []
        common = _common(self._ids, new)
        before = self._nll(self._ids, common)
        return Surprise(self._nll(new, common) - before, len(new) - common)

    def breaks_at(self, text: str, cut: int) -> bool:
        """Whether a continuation, cut there, has the ids that it has in the whole."""
        head, whole = self.encoded(self._text + text[:cut]), self.encoded(self._text + text)
        return whole[: len(head)] == head

    def _nll(self, ids: list[int], first: int) -> float:
        if first >= len(ids):
            return 0.0
        logits = self._logits(ids[:-1], first - 1)
        wanted = torch.tensor(ids[first:], device=logits.device)
        logps = logits.float().log_softmax(-1).gather(-1, wanted[:, None])
        return -float(logps.double().sum())

    def _logits(self, ids: list[int], first: int) -> Tensor:
        """Logits (ids from `first` on, vocabulary) of what follows each; reads only new ids."""
        keep = min(_common(self._seen, ids), first)
        if keep < len(self._seen):
            self._cache.crop(keep - len(self._seen)) if keep else self._forget()
        new = torch.tensor([ids[keep:]], device=self._member.model.device)
        output = self._member.model(
            input_ids=new,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=len(ids) - first,
        )
        self._seen = list(ids)
        logits: Tensor = output.logits[0]
        return logits

    def _forget(self) -> None:
        self._cache = DynamicCache()


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def write_together(
    members: Mapping[str, FusionMember], messages: Messages, fusion: ModelFusion, *, max_tokens: int
) -> WrittenTogether:
    """A response by segments: each model offers one, and the one that all find likeliest is taken.

    The paper (arXiv 2407.19807) leaves open that the end of the response competes as a segment,
    with the end of turn of each model, and that equal texts are one candidate.

    Args:
        max_tokens: most tokens, each segment counted by the model that wrote it.
    """
    views = [SharedText(member, messages) for member in members.values()]
    tokens = 0
    while tokens < max_tokens:
        offered: dict[tuple[str, bool], WordSegment] = {}
        for view in views:
            found = view.next_segment(max_tokens - tokens, partial(_accepted, views, fusion))
            if found is not None:
                known = offered.setdefault((found.text, found.ends), found)
                if found.tokens < known.tokens:  # so that the order of the models does not matter
                    offered[found.text, found.ends] = found
        if not offered:
            break
        chosen = _chosen(views, list(offered.values()), fusion)
        tokens += max(1, chosen.tokens)
        for view in views:
            view.append(chosen.text)
        if chosen.ends:
            return WrittenTogether(views[0].text, tokens, finished=True)
    return WrittenTogether(views[0].text, tokens, finished=False)


def _accepted(views: Sequence[SharedText], fusion: ModelFusion, text: str, cut: int) -> bool:
    return fusion.boundary == "shortest" or all(view.breaks_at(text, cut) for view in views)


def _chosen(
    views: Sequence[SharedText], offered: Sequence[WordSegment], fusion: ModelFusion
) -> WordSegment:
    if len(offered) == 1:
        return offered[0]
    named = {f"{one.text}{'' if one.ends else chr(0)}": one for one in offered}
    scores = {
        name: mean_surprise(
            [view.surprise(segment) for view in views],
            bytes_=text_bytes(segment.text, finished=segment.ends),
            aggregate=fusion.aggregate,
            unit=fusion.unit,
        )
        for name, segment in named.items()
    }
    return named[likeliest(scores)]
