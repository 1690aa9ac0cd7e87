"""The ways to make a training step on the same triples.

padded    one row per response, padded to the longest of the batch
grouped   the same after sorting all triples of the run by length
packed    no padding, each response with its own copy of the prompt
shared    no padding, each prompt once: `triple_layout: prefix`
trl       TRL's DPOTrainer on the pairs (chosen, rejected), its own batches and loss

All use the same two models, both forwarded on the spot, and TRL's fused LM head. It computes
log-probabilities and entropies; for TRL's trainer also the mean logits and top-1 hits of its logs.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from benchmarks.lengths import (
    Lengths,
    batches_of,
    packed_tokens,
    padded_tokens,
    pair_tokens,
    shared_tokens,
)
from benchmarks.shapes import Shape, attention_pairs, random_model
from wrpo.collator import (
    BatchLayout,
    DataCollatorForWRPO,
    Example,
    by_response,
    model_inputs,
    padded_layout,
)
from wrpo.losses import wrpo_loss
from wrpo.prefix.attention import FLASH, SDPA, attach_scored_only
from wrpo.prefix.packing import PackedLayout
from wrpo.prefix.varlen_attention import VARLEN
from wrpo.rows.columns import TRIPLE_RESPONSES

BETA = 0.01
FIELDS = ("log_probs", "entropy")  # the per-token values that WRPOTrainer reads

ATTENTION = {
    "sdpa": ("sdpa", SDPA),
    "varlen": ("sdpa", VARLEN),
    "varlen everywhere": (VARLEN, VARLEN),
    "flash": ("flash_attention_2", FLASH),
}
"""Implementations of padded rows and of packed ones."""

Rows = Sequence[dict[str, list[int]]]
Batch = dict[str, Tensor]


@dataclass
class Arm:
    """One way to make a step: its batches, and how the loss of a batch is computed.

    attention: implementation that the models use.
    expected: tokens of all batches according to `benchmarks.lengths`.
    real: tokens of the scored responses and of a prompt for each, without padding.
    scored: tokens of the responses alone.
    """

    name: str
    attention: str
    loss: Callable[[Batch], Tensor]
    batches: list[Batch]
    expected: int
    real: int
    scored: int

    @property
    def tokens(self) -> int:
        return sum(batch["input_ids"].numel() for batch in self.batches)

    @property
    def attention_pairs(self) -> int:
        return sum(map(attention_pairs, self.batches))


class Bench:
    """Policy and reference of one shape, and the arms that train on given lengths."""

    def __init__(
        self, shape: Shape, *, device: str, attention: str, checkpointing: bool, lm_head: str
    ) -> None:
        self.device, self.lm_head, self.shape = device, lm_head, shape
        self.attention = ATTENTION[attention]
        policy, reference = (
            random_model(shape, seed=seed, device=device, attention=self.attention[0])
            for seed in (0, 1)
        )
        add_fused_lm_head(policy, outputs=FIELDS)
        forward = policy.forward
        self.trainer = _dpo_trainer(policy, reference, device=device)
        # TRL's trainer puts an LM head of its own over that of the policy.
        self.forwards = {"trl": policy.forward, "wrpo": forward}
        self.policy, self.reference = policy.train(), reference
        for model in (policy, reference):
            attach_scored_only(model)
        if checkpointing:
            policy.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(self, arm: Arm, place: int) -> Tensor:
        """Loss of the arm's batch at `place`."""
        for model in (self.policy, self.reference):
            model.config._attn_implementation = arm.attention
        self.policy.forward = self.forwards["trl" if arm.name == "trl" else "wrpo"]
        return arm.loss(arm.batches[place])

    def step(self, arm: Arm, place: int) -> None:
        self.policy.zero_grad()
        self.forward(arm, place).backward()

    def arm(self, name: str, triples: Sequence[Lengths], size: int) -> Arm:
        """The arm `name` on batches of `size` triples of these lengths."""
        if name == "grouped":
            triples = sorted(triples, key=lambda triple: triple[0] + max(triple[1]))
        chunks = batches_of(triples, size)
        rows = [self._rows(chunk, seed) for seed, chunk in enumerate(chunks)]
        count = {"packed": packed_tokens, "shared": shared_tokens, "trl": pair_tokens}
        read = [responses[1:] if name == "trl" else responses for _, responses in triples]
        scored = sum(map(sum, read))
        packed = name in ("packed", "shared")
        return Arm(
            name,
            self.attention[packed],
            self._pair_loss if name == "trl" else self._triple_loss,
            [self._batch(name, chunk) for chunk in rows],
            expected=sum(map(count.get(name, padded_tokens), chunks)),
            real=scored + sum(n * len(a) for (n, _), a in zip(triples, read, strict=True)),
            scored=scored,
        )

    def _rows(self, triples: Sequence[Lengths], seed: int) -> Rows:
        generator = torch.Generator().manual_seed(seed)

        def tokens(count: int) -> list[int]:
            return torch.randint(1, self.shape.vocabulary, (count,), generator=generator).tolist()

        return [
            {
                "prompt_ids": tokens(prompt),
                **{
                    f"{name}_ids": tokens(n)
                    for name, n in zip(TRIPLE_RESPONSES, responses, strict=True)
                },
            }
            for prompt, responses in triples
        ]

    def _batch(self, name: str, rows: Rows) -> Batch:
        if name == "trl":
            batch = self.trainer.data_collator(rows)
        else:
            # On a GPU the LM head leaves out by itself what is not scored.
            shared = PackedLayout(scored_only=self.device == "cpu")
            layouts: dict[str, BatchLayout] = {"packed": unshared_layout, "shared": shared}
            layout = layouts.get(name, padded_layout)
            batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(rows)
            if layout is padded_layout and self.device == "cpu" and self.lm_head == "scored":
                batch = scored_only(batch)
        return {key: value.to(self.device) for key, value in batch.items()}

    def _triple_loss(self, batch: Batch) -> Tensor:
        inputs = model_inputs(batch)
        options = {"use_cache": False, "fused_lm_head": True}
        logps = by_response(self.policy(**inputs, **options).log_probs, batch)
        with torch.no_grad():
            before = by_response(self.reference(**inputs, **options).log_probs, batch)
        return wrpo_loss(*(logps - before).unbind(dim=1), alpha=0.1, beta=BETA).mean()

    def _pair_loss(self, batch: Batch) -> Tensor:
        return self.trainer.compute_loss(self.policy, batch)


def scored_only(batch: Batch) -> Batch:
    """A padded batch whose LM head sees only positions that predict a response token."""
    labels = batch.pop("labels")[:, 1:]
    keep = labels != -100
    return {
        **batch,
        "shift_labels": labels[keep][None],
        "scored_index": nn.functional.pad(keep, (0, 1)).flatten().nonzero().flatten(),
        "response_index": batch["response_index"][keep][None],
    }


def unshared_layout(
    examples: Sequence[Example],
    *,
    responses: Sequence[str],
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
) -> Batch:
    """One packed row in which every response has a copy of its prompt."""
    layout = PackedLayout(scored_only=True)
    parts = [layout(examples, responses=(name,), pad_token_id=pad_token_id) for name in responses]
    tokens = segments = 0
    for place, part in enumerate(parts):
        part["response_index"] = part["response_index"] * len(responses) + place
        part["scored_index"] += tokens
        part["attention_mask"][..., 1] += segments
        tokens += part["input_ids"].numel()
        segments += part["attention_mask"].shape[2]
    along = {"scored_index": 0, "attention_mask": 2}
    return {
        key: torch.cat([part[key] for part in parts], dim=along.get(key, 1)) for key in parts[0]
    }


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of one word, for trainers that want one and get token ids."""
    words = models.WordLevel({"[PAD]": 0, "[EOS]": 1, "word": 2}, unk_token="word")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), pad_token="[PAD]", eos_token="[EOS]"
    )


def _dpo_trainer(policy: Any, reference: Any, *, device: str) -> DPOTrainer:
    row = {"prompt": "word", "chosen": "word", "rejected": "word"}
    with tempfile.TemporaryDirectory() as folder:
        return DPOTrainer(
            model=policy,
            ref_model=reference,
            args=DPOConfig(
                output_dir=folder,
                beta=BETA,
                max_length=None,
                bf16=False,  # the weights decide
                gradient_checkpointing=False,
                use_cpu=device == "cpu",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([row]),
            processing_class=word_tokenizer(),
        )
