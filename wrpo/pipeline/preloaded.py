"""Importing this imports what stages need, once, for all that are forked from here.

Only the process does that from which `wrpo run --preload` forks stages (`stage_process`).
"""

import atexit
import gc
import importlib
import logging
import os
from contextlib import suppress

from wrpo.engines.local.vllm_env import prepare_environment
from wrpo.errors import ModelError

_PACKAGES = (
    *("pandas", "pyarrow.parquet", "datasets", "accelerate", "peft", "deepspeed", "scipy.stats"),
    *("transformers.trainer", "transformers.generation.utils", "torch.nn.attention.varlen"),
    *("trl.trainer.dpo_trainer", "trl.trainer.sft_trainer", "wrpo.trainer", "wrpo.training.common"),
    *("vllm.v1.engine.llm_engine", "lm_eval.evaluator", "lm_eval.models.huggingface"),
)


def leave_quietly() -> None:
    """Some of these packages complain at length when Python takes them apart."""
    os._exit(0)


logging.disable(logging.WARNING)  # what packages say of this machine when they are imported
with suppress(ModelError):
    prepare_environment(eager=True)  # torch and vLLM read it when they are imported
for _name in _PACKAGES:
    # A stage that needs what is not there, or is broken, says so itself.
    with suppress(Exception):
        importlib.import_module(_name)
logging.disable(logging.NOTSET)
# vLLM forces collections, of which each would look at every object of these packages.
gc.collect()
gc.freeze()
atexit.register(leave_quietly)
