"""Trains on distributions of teachers, on top of TRL's SFTTrainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from trl import SFTTrainer

from wrpo.distillation.settings import Distributions, Learned, TeacherSettings


class LessonCollator:
    """Batches of rows of `wrpo.distillation.rows.Lessons`.

    All responses of all prompts are rows of one padded batch, response by response. Distributions
    are (teacher, row, position, k), on the positions of the response alone.
    """

    def __init__(self, responses: Sequence[str], *, pad_token_id: int) -> None:
        self.responses = tuple(responses)
        self._pad = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        spoken = [(row, name) for name in self.responses for row in rows]
        prompts = [row["prompt_ids"] for row, _ in spoken]
        answers = [row[f"{name}_ids"] for row, name in spoken]
        lessons = [row[f"{name}_lessons"] for row, name in spoken]
        whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        return {
            "input_ids": _padded(whole, self._pad),
            "attention_mask": _padded([[1] * len(ids) for ids in whole], 0),
            "labels": _padded(answers, 0),
            "mask": _padded([[1] * len(ids) for ids in answers], 0).bool(),
            "starts": torch.tensor([len(prompt) - 1 for prompt in prompts]),
            **_teachers(lessons, length=max(map(len, answers))),
        }


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def _teachers(lessons: Sequence[Sequence[Mapping[str, Any]]], *, length: int) -> dict[str, Tensor]:
    teachers = max(map(len, lessons))
    each = [lesson for row in lessons for lesson in row]
    width = max((len(ids) for lesson in each for ids in lesson["ids"]), default=1)
    shape = (teachers, len(lessons), length)
    ids = torch.zeros(*shape, width, dtype=torch.long)
    logps = torch.full((*shape, width), -math.inf)
    rest = torch.full(shape, -math.inf)
    weight = torch.zeros(teachers, len(lessons))
    for row, own in enumerate(lessons):
        for teacher, lesson in enumerate(own):
            weight[teacher, row] = lesson["weight"]
            rest[teacher, row, : len(lesson["rest"])] = torch.tensor(lesson["rest"])
            for at, (named, values) in enumerate(zip(lesson["ids"], lesson["logps"], strict=True)):
                ids[teacher, row, at, : len(named)] = torch.tensor(named, dtype=torch.long)
                logps[teacher, row, at, : len(values)] = torch.tensor(values)
    return {"top_ids": ids, "top_logps": logps, "rest": rest, "weight": weight}


class TeacherTrainer(SFTTrainer):
    """SFTTrainer whose loss is that of an objective of `wrpo.distillation.settings`.

    Args:
        settings: the objective.
        arguments: SFTTrainer's own; the dataset has rows of `Lessons`.
    """

    def __init__(self, settings: TeacherSettings, **arguments: Any) -> None:
        self._settings = settings
        args = arguments["args"]
        args.remove_unused_columns = False
        args.dataset_kwargs = {"skip_prepare_dataset": True}
        pad = arguments["processing_class"].pad_token_id
        collator = LessonCollator(settings.responses, pad_token_id=pad)
        super().__init__(data_collator=collator, **arguments)
        # A micro-batch is a mean over its prompts, and so is an optimizer step over these.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The mean over the prompts of one micro-batch."""
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        ).logits
        state = self.state
        progress = min(1.0, state.global_step / state.max_steps) if state.max_steps else 0.0
        losses, metrics = self._settings.loss(self._learned(logits, inputs), progress)
        for name, values in metrics.items():
            self._metrics["train"][name].append(values.detach().float().mean().item())
        return losses.mean()

    def _learned(self, logits: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Learned]:
        """The predictions of each response's tokens, by name."""
        length = inputs["labels"].shape[1]
        at = inputs["starts"][:, None] + torch.arange(length, device=logits.device)
        at = at.clamp(max=logits.shape[1] - 1)
        rows = torch.arange(len(at), device=logits.device)[:, None]
        predicted = logits[rows, at]
        count = len(at) // len(self._settings.responses)
        found = {}
        for place, name in enumerate(self._settings.responses):
            own = slice(place * count, (place + 1) * count)
            teachers = [
                Distributions(
                    inputs["top_ids"][number, own],
                    inputs["top_logps"][number, own],
                    inputs["rest"][number, own],
                    inputs["weight"][number, own],
                )
                for number in range(len(inputs["weight"]))
            ]
            learned = Learned(predicted[own], inputs["labels"][own], inputs["mask"][own], teachers)
            found[name] = learned
        return found
