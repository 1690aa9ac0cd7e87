"""Weighted-reward preference optimisation: several source models fused into one target.

Importing the package loads nothing heavy; each public name loads its module when first used.
"""

import sys
from importlib import import_module
from typing import Any

if sys.argv[:1] == ["-m"]:  # a command of the package is starting
    from wrpo.processes import interrupt_imports_quietly

    interrupt_imports_quietly()

_HOME = {
    "DataCollatorForWRPO": "wrpo.collator",
    "WRPOConfig": "wrpo.config",
    "WRPOTrainer": "wrpo.trainer",
    "alpha_at": "wrpo.objectives.options",
    "preference_loss": "wrpo.losses",
    "wrpo_loss": "wrpo.losses",
}

__all__ = [
    "DataCollatorForWRPO",
    "WRPOConfig",
    "WRPOTrainer",
    "alpha_at",
    "preference_loss",
    "wrpo_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wrpo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
