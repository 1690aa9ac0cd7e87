"""The points of TRL, transformers, vLLM and lm-eval that the toolkit relies on beyond their
documented interfaces. When a release moves one of them, the name of the failing test says what to
look at: run this file first after changing a version in `requirements/`.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields

import pytest

NAMES = [
    "trl.models.utils:disable_gradient_checkpointing",
    "trl.trainer.utils:add_fused_lm_head",
    "trl.trainer.utils:global_then_local_main_first",
    "trl.trainer.utils:use_adapter",
    "trl.trainer.utils:get_config_model_id",
    "transformers.integrations.flash_attention:get_target_dtype",
    "transformers.integrations.sdpa_attention:sdpa_attention_forward",
    "transformers.masking_utils:flash_attention_mask",
    "transformers.masking_utils:sdpa_mask",
    "transformers.modeling_flash_attention_utils:_flash_attention_forward",
    "transformers.modeling_flash_attention_utils:flash_attn_supports_top_left_mask",
    "transformers.modeling_layers:GenericForSequenceClassification",
    "transformers.modeling_utils:is_deepspeed_zero3_enabled",
    "transformers.modeling_utils:is_fsdp_enabled",
    "transformers.models.mixtral.modeling_mixtral:load_balancing_loss_func",
    "transformers.trainer_pt_utils:BatchRebalanceSampler",
    "transformers.trainer_utils:get_last_checkpoint",
    "vllm.inputs:TokensPrompt",
    "vllm.sampling_params:RequestOutputKind",
    "lm_eval.models.huggingface:HFLM",
    "lm_eval.models.utils:normalize_gen_kwargs",
    "lm_eval.models.vllm_causallms:VLLM",
    "lm_eval.tasks:TaskManager",
]


@pytest.mark.parametrize("place", NAMES)
def test_the_name_is_where_it_is_imported_from(place: str) -> None:
    module, name = place.split(":")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    "method",
    [
        "_prepare_dataset",
        "_compute_loss",
        "compute_loss",
        "compute_ref_log_probs",
        "_precompute_ref_logps",
        "_set_signature_columns_if_needed",
        "log",
        "prediction_step",
    ],
)
def test_the_methods_that_the_trainer_replaces_are_still_those_of_dpotrainer(method: str) -> None:
    from trl import DPOTrainer

    assert callable(getattr(DPOTrainer, method, None)), f"DPOTrainer.{method} is gone"


def test_the_fused_head_returns_log_probs_and_entropy_and_keeps_no_logits() -> None:
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from tests.support.tiny_models import tiny_model

    model = tiny_model("llama")
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ids = torch.tensor([[7, 8, 9, 10]])
    output = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert output.log_probs.shape == output.entropy.shape
    assert output.log_probs.numel() in (3, 4)
    assert getattr(output, "logits", None) is None


def test_trl_config_fields_that_recipes_and_the_trainer_name_exist() -> None:
    from trl import DPOConfig, SFTConfig

    shared = {"learning_rate", "max_steps", "warmup_steps", "bf16", "gradient_checkpointing"}
    shared |= {"use_cpu", "save_strategy", "report_to", "optim", "lr_scheduler_type", "max_length"}
    assert shared | {"packing", "padding_free"} <= {field.name for field in fields(SFTConfig)}
    own = {"beta", "loss_type", "precompute_ref_log_probs", "disable_dropout"}
    assert shared | own <= {field.name for field in fields(DPOConfig)}


def test_attention_functions_take_what_packed_batches_hand_over() -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    parameters = inspect.signature(sdpa_attention_forward).parameters
    assert list(parameters)[:5] == ["module", "query", "key", "value", "attention_mask"]
    assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


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
