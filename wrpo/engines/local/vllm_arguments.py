"""`engine.vllm`: further arguments of vLLM's engine, checked without importing vLLM."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from wrpo.source_fields import class_annotations

_CHANGES_RESPONSES = "it changes the responses, and engine settings must not"
DECIDED = {
    "model": "write `model` of the source",
    "revision": "write `revision` of the source",
    "tokenizer": "it is the model's own",
    "tokenizer_revision": "write `revision` of the source",
    "dtype": "write `dtype` of the source",
    "quantization": "write `quantization` of the source",
    "trust_remote_code": "write `trust_remote_code` of the source",
    "enable_lora": "write `adapter` of the source",
    "tensor_parallel_size": "write `engine.tensor_parallel_size`",
    "pipeline_parallel_size": "write `engine.pipeline_parallel_size`",
    "data_parallel_size": "write `engine.replicas`",
    "gpu_memory_utilization": "write `engine.gpu_memory_utilization`",
    "max_num_seqs": "write `engine.max_num_seqs`",
    "enforce_eager": "write `engine.enforce_eager`",
    "enable_prefix_caching": "write `engine.prefix_caching`",
    "kv_cache_memory_bytes": "write `engine.kv_cache_mib`",
    "max_model_len": "it is `sample.max_prompt_tokens` + `max_tokens`",
    "seed": "each response has a seed of its own",
    "runner": "the stage decides it",
    "convert": "the stage decides it",
    "generation_config": "sampling fields come from `sample` alone",
    "override_generation_config": "sampling fields come from `sample` alone",
    "skip_tokenizer_init": "the text of the responses needs the tokenizer",
    "disable_log_stats": "the stage decides it",
    "hf_token": "a recipe holds no keys; set HF_TOKEN in the environment",
    "hf_overrides": _CHANGES_RESPONSES,
    "logits_processors": _CHANGES_RESPONSES,
    "logprobs_mode": _CHANGES_RESPONSES,
}


def check_vllm_keys(arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments; where vLLM is not installed, their names are not checked.

    Raises:
        ValueError: a name is no engine argument, or is decided elsewhere.
    """
    known = class_annotations("vllm", "engine/arg_utils.py", "EngineArgs") if arguments else {}
    for name in arguments:
        if name in DECIDED:
            raise ValueError(f'"{name}" does not belong here: {DECIDED[name]}')
        if known and name not in known:
            close = get_close_matches(name, known.keys() - DECIDED.keys(), n=1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise ValueError(f'"{name}" is no engine argument of the installed vLLM{hint}')
    return arguments
