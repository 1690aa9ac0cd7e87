"""Trains on distributions of teachers, on top of TRL's SFTTrainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from trl import SFTTrainer

from wrpo.distillation.settings import Distributions, Learned, TeacherSettings
from wrpo.training.batches.micro_batches import Costs, MicroBatches, take_whole_steps


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
        told = [len(lesson["ids"]) for row in lessons for lesson in row]
        length = max([*map(len, answers), *told])
        return {
            "input_ids": _padded(whole, self._pad),
            "attention_mask": _padded([[1] * len(ids) for ids in whole], 0),
            "labels": _padded(answers, 0, length=length),
            "mask": _padded([[1] * len(ids) for ids in answers], 0, length=length).bool(),
            "starts": torch.tensor([len(prompt) - 1 for prompt in prompts]),
            **_teachers(lessons, length=length),
        }


def _padded(rows: Sequence[Sequence[int]], value: int, *, length: int | None = None) -> Tensor:
    longest = max(map(len, rows)) if length is None else length
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def _teachers(lessons: Sequence[Sequence[Mapping[str, Any]]], *, length: int) -> dict[str, Tensor]:
    teachers = max(map(len, lessons))
    each = [lesson for row in lessons for lesson in row]
    width = max((len(ids) for lesson in each for ids in lesson["ids"]), default=1)
    shape = (teachers, len(lessons), length)
    ids = torch.zeros(*shape, width, dtype=torch.long)
    logps = torch.full((*shape, width), -math.inf)
    rest = torch.full(shape, -math.inf)
    told = torch.zeros(shape, dtype=torch.bool)
    weight = torch.zeros(teachers, len(lessons))
    for row, own in enumerate(lessons):
        for teacher, lesson in enumerate(own):
            place, count = (teacher, row), len(lesson["rest"])
            weight[place] = lesson["weight"]
            told[place][:count] = True
            rest[place][:count] = torch.tensor(lesson["rest"])
            ids[place][:count] = torch.tensor([_wide(one, 0, width) for one in lesson["ids"]])
            values = [_wide(one, -math.inf, width) for one in lesson["logps"]]
            logps[place][:count] = torch.tensor(values)
    return {"top_ids": ids, "top_logps": logps, "rest": rest, "told": told, "weight": weight}


def _wide(values: Sequence[Any], filling: float, width: int) -> list[Any]:
    return [*values, *[filling] * (width - len(values))]


class TeacherTrainer(MicroBatches, SFTTrainer):
    """SFTTrainer whose loss is that of an objective of `wrpo.distillation.settings`.

    An optimizer step is the mean over its prompts, however they are cut into micro-batches and
    shared among processes.

    Args:
        settings: the objective.
        tokens: most tokens of a forward pass, or "auto"; None: rows decide.
        arguments: SFTTrainer's own; the dataset has rows of `Lessons`.
    """

    def __init__(
        self, settings: TeacherSettings, tokens: int | str | None = None, **arguments: Any
    ) -> None:
        self._settings = settings
        self.budget_tokens = tokens
        args = arguments["args"]
        args.remove_unused_columns = False
        args.dataset_kwargs = {"skip_prepare_dataset": True}
        if tokens is not None:
            take_whole_steps(args)
        pad = arguments["processing_class"].pad_token_id
        collator = LessonCollator(settings.responses, pad_token_id=pad)
        super().__init__(data_collator=collator, **arguments)
        self.model_accepts_loss_kwargs = True  # the loss is divided here, by prompts

    def row_costs(self, rows: Sequence[Any]) -> Costs:
        return Costs([self._cost(row) for row in rows], padded=True)

    def longest_row(self) -> int:
        rows: Any = self.train_dataset.with_format(None)  # reads no distribution
        return max(self._cost(row) for row in rows)

    def _cost(self, row: Mapping[str, Any]) -> int:
        """Tokens that the responses of a prompt take in a padded batch."""
        names = self._settings.responses
        longest = max(len(row[f"{name}_ids"]) for name in names)
        return len(names) * (len(row["prompt_ids"]) + longest)

    def recorded(self) -> Any:
        return copy.deepcopy(self._metrics["train"]), self._total_train_tokens

    def restore(self, recorded: Any) -> None:
        self._metrics["train"], self._total_train_tokens = recorded

    def _get_num_items_in_batch(
        self, batch_samples: list[Any], device: torch.device
    ) -> Tensor | None:
        """Prompts of one optimizer step, over its micro-batches and all ranks."""
        if not batch_samples:
            return None
        for batch in batch_samples:
            prompts = len(batch["labels"]) // len(self._settings.responses)
            batch["counts"] = torch.ones(prompts)
        self._discount_repeated(batch_samples[-1]["counts"])
        counted = sum(int(batch["counts"].sum()) for batch in batch_samples)
        return self.accelerator.gather(torch.tensor([counted], device=device)).sum()

    def _discount_repeated(self, counts: Tensor) -> None:
        """Prompts from the start of the epoch fill up its last batches, so that each process has as
        many as the others: they are no part of the step."""
        state = self.accelerator.gradient_state
        if self.budget is None and state.end_of_dataloader and state.remainder > 0:
            before = self.accelerator.process_index * len(counts)
            counts[max(0, state.remainder - before) :] = 0.0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The share of one micro-batch in the mean over the prompts of the optimizer step."""
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        ).logits
        state = self.state
        progress = min(1.0, state.global_step / state.max_steps) if state.max_steps else 0.0
        losses, metrics = self._settings.loss(self._learned(logits, inputs), progress)
        self._record(inputs, metrics)
        if num_items_in_batch is None:
            return losses.mean()
        return (
            (losses * inputs["counts"].to(losses.device)).sum()
            * self.accelerator.num_processes
            / num_items_in_batch
        )

    def _record(self, inputs: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> None:
        """Metrics of the micro-batches of all ranks, and the tokens that they forwarded."""
        means = [values.detach().float().mean() for values in metrics.values()]
        own = torch.stack([*means, inputs["attention_mask"].sum().float()])
        found = self.accelerator.gather(own[None])
        self._total_train_tokens += round(float(found[:, -1].sum()))
        for name, value in zip(metrics, found.mean(0).tolist(), strict=False):
            self._metrics["train"][name].append(value)

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
                    inputs["told"][number, own],
                    inputs["weight"][number, own],
                )
                for number in range(len(inputs["weight"]))
            ]
            learned = Learned(predicted[own], inputs["labels"][own], inputs["mask"][own], teachers)
            found[name] = learned
        return found
