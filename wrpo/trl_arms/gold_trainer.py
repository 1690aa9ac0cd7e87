"""GOLDTrainer whose teacher reads each response under its own chat template.

TRL shows the teacher the text that the student's template writes: the student's headers and end of
turn as plain letters, and behind them the teacher's EOS, which need not end its turns. Here the
teacher reads what it reads when it is sampled: its own rendering of the same messages, the
response, and its own end of turn. Offsets count bytes of the response; the end of turn is the byte
behind them on both sides, whatever either calls it. Tokens are the same where their bytes are, and
both ends of turn are. The loss stays TRL's.

A response is read up to its end or to the first token that is no text (a sampled header, a part of
a letter); nothing behind that is taught.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from trl.experimental.gold import GOLDTrainer
from trl.experimental.gold.gold_trainer import ULDLoss
from trl.experimental.utils import DataCollatorForChatML

from wrpo.chat.render import render_response
from wrpo.chat.template import Messages
from wrpo.distillation.token_bytes import TokenBytes
from wrpo.errors import TemplateError
from wrpo.trl_arms.teachers import TeacherChat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_IGNORED = -100
_TEXTS = ("original_prompt_text", "original_completion_text")


class Side(NamedTuple):
    """A sequence as one of both models reads it.

    Attributes:
        ids: of the whole sequence.
        start: place of the first token of the response.
        spans: (start, end) in bytes of the response, of its tokens; (n, n + 1) for the end of turn
            behind its n bytes.
    """

    ids: list[int]
    start: int
    spans: list[tuple[int, int]]


class GOLDOwnTemplateTrainer(GOLDTrainer):
    """GOLD on rows of `wrpo.trl_arms.data.token_ids`.

    Responses that the teacher's template or tokenizer cannot spell teach nothing; `untaught` of the
    log is their share.

    Args:
        chat: of the teacher.
        arguments: of GOLDTrainer.

    Raises:
        ModelError: the tokens of a tokenizer are not known as bytes.
    """

    def __init__(self, chat: TeacherChat, **arguments: Any) -> None:
        args, tokenizer = arguments["args"], arguments["processing_class"]
        args.remove_unused_columns = False
        args.dataset_kwargs = {"skip_prepare_dataset": True}
        self._chat = chat
        self._bytes = TokenBytes(tokenizer)
        self._teacher_bytes = TokenBytes(chat.tokenizer)
        super().__init__(data_collator=ConversationCollator(tokenizer), **arguments)
        self.uld_loss_fn = ULDLoss(
            args,
            student_tokenizer=_ByBytes(self._bytes),
            teacher_tokenizer=_ByBytes(self._teacher_bytes),
            device=self.accelerator.device,
        )

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        columns = inputs["conversation"], inputs["input_ids"].tolist(), inputs["labels"].tolist()
        sides = [self.sides(*row) for row in zip(*columns, strict=True)]
        ids, _, labels, offsets = self._tensors([own for own, _ in sides])
        told_ids, told_mask, told_labels, told_offsets = self._tensors([told for _, told in sides])
        self._metrics["train"]["untaught"].append(
            sum(not told.spans for _, told in sides) / len(sides)
        )
        outputs = model(input_ids=ids, attention_mask=inputs["attention_mask"], use_cache=False)
        self.teacher_model.eval()
        with torch.no_grad():
            told = self.teacher_model(input_ids=told_ids, attention_mask=told_mask, use_cache=False)
        loss = self.uld_loss_fn(
            student_logits=outputs.logits,
            teacher_logits=told.logits,
            student_labels=labels,
            teacher_labels=told_labels,
            student_input_ids=ids,
            teacher_input_ids=told_ids,
            student_byte_offsets=offsets,
            teacher_byte_offsets=told_offsets,
        ).squeeze()  # TRL's is (1,) where no row is taught
        return (loss, outputs) if return_outputs else loss

    def sides(self, messages: Messages, ids: list[int], labels: Sequence[int]) -> tuple[Side, Side]:
        """A row of a batch as the student and as the teacher read it.

        Args:
            messages: what the response follows.
            ids: the student's, (L,).
            labels: those of the response, -100 elsewhere, (L,).
        """
        said = [token for token in labels if token != _IGNORED]
        count, text, finished = self._read(said)
        spans = self._bytes.spans([*said[:count], *([self._bytes.end] * finished)], text)
        before, found = _spelled(spans, gaps=False)
        first = next((at for at, token in enumerate(labels) if token != _IGNORED), 0)
        return Side(ids, first + before, found), self._told(messages, text, finished=finished)

    def _read(self, said: list[int]) -> tuple[int, str, bool]:
        """How many tokens are text, the text, and whether the turn ends behind it."""
        ends = self.generation_config.eos_token_id
        stops = {self._bytes.end, *(ends if isinstance(ends, list) else [ends])}
        readable = takewhile(lambda one: one not in stops and self._bytes[one] is not None, said)
        pieces = [self._bytes[token] or b"" for token in readable]
        finished = len(pieces) < len(said) and said[len(pieces)] in stops
        for count in range(len(pieces), -1, -1):
            try:
                text = b"".join(pieces[:count]).decode()
            except UnicodeDecodeError:
                continue
            return count, text.strip(), finished and count == len(pieces)
        raise AssertionError("no bytes are a text")

    def _told(self, messages: Messages, text: str, *, finished: bool) -> Side:
        tokenizer, fold = self._chat.tokenizer, self._chat.fold_system
        try:
            prompt, said = render_response(
                tokenizer, messages, text, fold_system=fold, finished=finished
            )
        except TemplateError:
            return Side([self._teacher_bytes.end], 0, [])
        before, found = _spelled(self._teacher_bytes.spans(said, text), gaps=True)
        return Side(prompt + said, len(prompt) + before, found)

    def _tensors(self, sides: Sequence[Side]) -> tuple[torch.Tensor, ...]:
        """Ids, attention mask and labels (n, L), and offsets (n, L, 2), padded on the right."""
        shape = len(sides), max(len(side.ids) for side in sides)
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        labels = torch.full_like(ids, _IGNORED)
        offsets = torch.zeros((*shape, 2), dtype=torch.long)
        for row, side in enumerate(sides):
            ids[row, : len(side.ids)] = torch.tensor(side.ids)
            mask[row, : len(side.ids)] = 1
            here = slice(side.start, side.start + len(side.spans))
            labels[row, here] = ids[row, here]
            offsets[row, here] = torch.tensor(side.spans, dtype=torch.long).reshape(-1, 2)
        return tuple(one.to(self.accelerator.device) for one in (ids, mask, labels, offsets))


class ConversationCollator:
    """TRL's batches, with the messages that each response follows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._collate = DataCollatorForChatML(tokenizer)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self._collate(examples)
        batch["conversation"] = [example["conversation"] for example in examples]
        # TRL refuses batches without the texts that its own teacher would read.
        return {**batch, **{name: [""] * len(examples) for name in _TEXTS}}


class _ByBytes:
    """A vocabulary in which tokens of two tokenizers have one name if they say the same."""

    def __init__(self, tokens: TokenBytes) -> None:
        self._tokens = tokens

    def get_vocab(self) -> dict[bytes | str, int]:
        """Ids by the bytes of tokens, the first of several, and that of the end of turn."""
        named: dict[bytes | str, int] = {"end of turn": self._tokens.end}
        for token, content in self._tokens.items():
            if token != self._tokens.end and self._tokens.id_of(content) == token:
                named[content] = token
        return named


def _spelled(
    spans: Sequence[tuple[int, int] | None], *, gaps: bool
) -> tuple[int, list[tuple[int, int]]]:
    """How many tokens precede a response, and the spans of those behind them.

    Args:
        gaps: tokens in between that are not of the response, as a space that a template writes
            before the end of turn, count to the next token; else nothing from there on counts.
    """
    before = next((at for at, span in enumerate(spans) if span is not None), len(spans))
    found: list[tuple[int, int]] = []
    for span in spans[before:]:
        if span is None and not gaps:
            break
        place = found[-1][1] if found else 0
        found.append(span or (place, place))
    if found and found[-1][0] == found[-1][1]:
        place = found[-1][1]
        found[-1] = (place, place + 1)
    return before, found
