"""Fixtures of the training tests: a tiny tokenizer, triples and a ready configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from wrpo.config import WRPOConfig
    from wrpo.trainer import WRPOTrainer

_WORDS = ("red", "blue", "green", "seven", "north", "lamp", "river", "stone", "quick", "odd")


def make_triples(rows: int = 8, *, offset: int = 0) -> list[dict[str, Any]]:
    """Conversational triples whose prompts and responses all differ in length."""
    triples = []
    for i in range(offset, offset + rows):
        word = _WORDS[i % len(_WORDS)]
        triples.append(
            {
                "triple_id": f"t{i}",
                "prompt": [{"role": "user", "content": f"say {word}" + "?" * (i % 4)}],
                "source_chosen": [_assistant(f"{word} {'ok ' * (i % 3)}{i}")],
                "chosen": [_assistant(f"{word}!" * (1 + i % 2))],
                "rejected": [_assistant("no" + "." * (i % 5))],
                "source_chosen_score": 0.1 * (i % 3),
                "chosen_score": 0.15,
                "rejected_score": -0.5,
            }
        )
    return triples


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerBase":
    from tests.support.tiny_models import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture
def triples() -> "Dataset":
    from datasets import Dataset

    return Dataset.from_list(make_triples())


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., "WRPOConfig"]:
    """Configuration for exact runs on a CPU; keyword arguments override it."""
    from wrpo.config import WRPOConfig

    def make(**options: Any) -> WRPOConfig:
        defaults = {
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "disable_tqdm": True,
            "logging_steps": 1,
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "beta": 0.3,
            "save_strategy": "no",
            "max_length": None,
            "precompute_ref_log_probs": False,
        }
        return WRPOConfig(**{**defaults, **options})

    return make


@pytest.fixture
def make_trainer(make_config, triples, tokenizer) -> Callable[..., "WRPOTrainer"]:
    """Trainer of a float64 policy on the triples, by options of the configuration or trainer."""
    from tests.wrpo.training.small_training import policy
    from wrpo.trainer import WRPOTrainer

    def make(*, model=None, train_dataset=triples, **options: Any) -> "WRPOTrainer":
        outside = ("ref_model", "eval_dataset", "peft_config", "callbacks", "compute_metrics")
        arguments = {name: options.pop(name) for name in outside if name in options}
        return WRPOTrainer(
            model=policy() if model is None else model,
            args=make_config(**options),
            train_dataset=train_dataset,
            processing_class=tokenizer,
            **arguments,
        )

    return make


@pytest.fixture
def trl_pair_trainer(make_config, triples, tokenizer):
    """TRL's own DPO trainer on (preferred, y_l) of the same triples."""
    from trl import DPOConfig, DPOTrainer

    def make(preferred: str, *, model, ref_model, loss_type: str = "sigmoid"):
        options = make_config(loss_type=loss_type).to_dict()
        names = DPOConfig.__dataclass_fields__
        kept = {k: v for k, v in options.items() if k in names and k != "pad_token"}
        pairs = triples.select_columns(["prompt", preferred, "rejected"])
        if preferred != "chosen":
            pairs = pairs.rename_column(preferred, "chosen")
        return DPOTrainer(
            model=model,
            ref_model=ref_model,
            args=DPOConfig(**kept),
            train_dataset=pairs,
            processing_class=tokenizer,
        )

    return make
