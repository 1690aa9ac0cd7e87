"""What sampling and evaluation rely on in vLLM, lm-eval and transformers beyond their documented
interfaces; test_trl_seam.py has what training relies on. When a release moves one of these points,
the name of the failing test says what to look at: run this folder first after changing a version in
`requirements/`.
"""

from __future__ import annotations

import importlib
from dataclasses import fields

import pytest

NAMES = [
    "transformers.modeling_layers:GenericForSequenceClassification",
    "transformers.trainer_utils:get_last_checkpoint",
    "vllm.inputs:TokensPrompt",
    "vllm.sampling_params:RequestOutputKind",
    "lm_eval.evaluator:add_env_info",
    "lm_eval.models.huggingface:HFLM",
    "lm_eval.models.utils:normalize_gen_kwargs",
    "lm_eval.models.vllm_causallms:VLLM",
    "lm_eval.tasks:TaskManager",
]


@pytest.mark.parametrize("place", NAMES)
def test_the_name_is_where_it_is_imported_from(place: str) -> None:
    module, name = place.split(":")
    assert hasattr(importlib.import_module(module), name)


def test_vllm_takes_the_engine_arguments_and_sampling_fields_that_are_given() -> None:
    from vllm import SamplingParams
    from vllm.engine.arg_utils import EngineArgs

    arguments = {field.name for field in fields(EngineArgs)}
    assert {
        *("model", "revision", "dtype", "quantization", "trust_remote_code", "max_model_len"),
        *("tensor_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization"),
        *("max_num_seqs", "enforce_eager", "enable_prefix_caching", "generation_config"),
        *("disable_log_stats", "kv_cache_memory_bytes", "enable_chunked_prefill"),
        *("max_num_batched_tokens",),
    } <= arguments
    parameters = SamplingParams(
        n=1,
        temperature=0.5,
        top_p=0.9,
        top_k=0,
        min_p=0.0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        max_tokens=4,
        seed=1,
        stop_token_ids=[1],
        logprobs=0,
        prompt_logprobs=0,
    )
    assert parameters.seed == 1


def test_vllm_engines_are_fed_request_by_request() -> None:
    from vllm.v1.engine.llm_engine import LLMEngine

    assert {"add_request", "step"} <= set(dir(LLMEngine))


def test_pooling_scores_can_be_had_without_an_activation() -> None:
    from vllm import PoolingParams

    assert PoolingParams(use_activation=False).use_activation is False


def test_lm_eval_models_have_the_hooks_that_hand_over_token_ids() -> None:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.vllm_causallms import VLLM

    assert {"tok_batch_encode", "apply_chat_template"} <= set(dir(HFLM))
    assert {"tok_encode", "apply_chat_template", "modify_gen_kwargs"} <= set(dir(VLLM))
