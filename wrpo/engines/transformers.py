"""transformers' generate: slow, for models that vLLM lacks or machines without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from wrpo.engines.base import Capacity, Completion, EngineSettings, GenerationTask, Request
from wrpo.engines.local.adapter import adapter_folder
from wrpo.errors import ModelError, RecipeError, loading_failures

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from wrpo.recipe.sampling import Model

_BATCHES_SORTED_TOGETHER = 8


class TransformersSettings(EngineSettings):
    """transformers' generate in this process: slow, for models that vLLM lacks."""

    backend: Literal["transformers"] = Field(
        "transformers", description="transformers' generate in this process."
    )
    tensor_parallel_size: int = Field(
        1, ge=1, description="GPUs per replica; the layers are divided among them."
    )
    max_num_seqs: int = Field(256, ge=1, description="Prompts per batch.")

    @property
    def capacity(self) -> Capacity:
        """GPUs of one replica, and one batch."""
        return Capacity(self.tensor_parallel_size, self.max_num_seqs)

    def load(self, task: GenerationTask) -> TransformersEngine:
        """The model in this process."""
        return TransformersEngine(task, self)


class TransformersEngine:
    """Batches of `engine.max_num_seqs` prompts of like length.

    Raises:
        RecipeError: the entry asks for a quantisation of vLLM.
        ModelError: the model cannot be loaded, or takes fewer tokens than `max_model_len`.
    """

    def __init__(self, task: GenerationTask, engine: TransformersSettings) -> None:
        from wrpo.chat.tokenizer import load_tokenizer

        entry = task.entry
        if entry.quantization:
            raise RecipeError(
                f"quantization: {entry.quantization} is vLLM's; backend transformers has no such "
                "setting: leave it out, or use backend vllm"
            )
        self._sampling = task.sampling
        self._stop_token_ids = task.stop_token_ids
        self._batch_size = engine.max_num_seqs
        self._tokenizer = load_tokenizer(
            task.model, revision=entry.revision, trust_remote_code=entry.trust_remote_code
        )
        self._model = _load(task.model, entry, task.max_model_len)

    @property
    def model(self) -> PreTrainedModel:
        """The loaded model."""
        return self._model

    @property
    def batch_size(self) -> int:
        """Prompts that are computed together."""
        return self._batch_size

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yields the completions of one batch after the other."""
        waiting = iter(requests)
        while window := list(islice(waiting, self._batch_size * _BATCHES_SORTED_TOGETHER)):
            window.sort(key=lambda request: len(request.prompt_ids))
            for sampling, alike in self._by_sampling(window):
                for start in range(0, len(alike), self._batch_size):
                    yield from self._batch(alike[start : start + self._batch_size], sampling)

    def _by_sampling(self, requests: list[Request]) -> list[tuple[dict[str, Any], list[Request]]]:
        """Requests with the same sampling fields, which can share a batch."""
        groups: list[tuple[dict[str, Any], list[Request]]] = []
        for request in requests:
            sampling = request.sampling or self._sampling
            own = next((group for fields, group in groups if fields == sampling), None)
            if own is None:
                groups.append((sampling, [request]))
            else:
                own.append(request)
        return groups

    def close(self) -> None:
        """Nothing runs outside this process."""

    def _batch(self, requests: list[Request], sampling: dict[str, Any]) -> list[Completion]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        from wrpo.engines.local.per_row_sampling import RowSampler

        padding = self._tokenizer.pad_token_id
        ids, mask = (side.to(self._model.device) for side in _padded(requests, padding))
        sampler = RowSampler(sampling, mask, [request.seed for request in requests])
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                logits_processor=LogitsProcessorList([sampler]),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=sampling["max_tokens"],
                    eos_token_id=self._stop_token_ids,
                    pad_token_id=padding,
                ),
            )
        responses = [self._cut(row) for row in output[:, ids.shape[1] :].tolist()]
        logprobs = sampler.logprobs([len(response) for response in responses])
        return [
            self._completion(request, response, logprob)
            for request, response, logprob in zip(requests, responses, logprobs, strict=True)
        ]

    def _cut(self, ids: list[int]) -> list[int]:
        """The response up to and with its stop token; padding follows that."""
        ends = [place for place, token in enumerate(ids) if token in self._stop_token_ids]
        return ids[: ends[0] + 1] if ends else ids

    def _completion(self, request: Request, ids: list[int], logprob: float | None) -> Completion:
        stopped = ids[-1] in self._stop_token_ids
        return Completion(
            row=request.row,
            text=self._text(request.prompt_ids, ids[:-1] if stopped else ids),
            token_ids=ids,
            token_count=len(ids),
            finish_reason="stop" if stopped else "length",
            logprob=logprob,
        )

    def _text(self, prompt_ids: list[int], ids: list[int]) -> str:
        """Text of the response as vLLM makes it: the prompt decides about a leading space, and a
        character whose last bytes are missing is left out."""
        from tokenizers.decoders import DecodeStream

        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return str(self._tokenizer.decode(ids, skip_special_tokens=True))
        stream = DecodeStream(ids=prompt_ids, skip_special_tokens=True)
        return "".join(stream.step(backend, token) or "" for token in ids)


def _padded(requests: list[Request], padding: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (requests, longest prompt), padded on the left."""
    import torch

    width = max(len(request.prompt_ids) for request in requests)
    ids = torch.full((len(requests), width), padding)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(requests):
        start = width - len(request.prompt_ids)
        ids[row, start:] = torch.tensor(request.prompt_ids)
        mask[row, start:] = 1
    return ids, mask


def _load(model: str, entry: Model, max_model_len: int) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from wrpo.prefix.left_out import complete_attention

    try:
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            model,
            revision=entry.revision,
            dtype=entry.dtype,
            trust_remote_code=entry.trust_remote_code,
            use_safetensors=True,
            device_map="auto" if torch.cuda.is_available() else None,
        )
    except loading_failures() as error:
        raise ModelError(f"transformers cannot load {model}: {error}") from error
    complete_attention(loaded)
    if entry.adapter:
        _add_adapter(loaded, entry.adapter)
    longest = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and longest < max_model_len:
        raise ModelError(
            f"{model} takes {longest} tokens, and sample.max_prompt_tokens + max_tokens is "
            f"{max_model_len}; lower one of them for this source"
        )
    # generate takes what its own config leaves open from here: nothing of it is in the recipe.
    loaded.generation_config = GenerationConfig()
    return loaded.eval()


def _add_adapter(model: PreTrainedModel, adapter: str) -> None:
    """Kept apart from the weights, as vLLM does: merging would add rounding."""
    folder = adapter_folder(adapter)
    try:
        model.load_adapter(str(folder))
    except (ValueError, ImportError, RuntimeError) as error:
        raise ModelError(f"adapter {adapter} does not load into its model: {error}") from error
