"""Train on distributions in two processes; started by torchrun in a test.

Usage: python -m tests.wrpo.distillation.two_processes FOLDER
Writes: FOLDER/result.json: the weights, and what was logged
"""

import json
import sys
from pathlib import Path

from tests.wrpo.distillation.teacher_training import trained
from tests.wrpo.training.small_training import logged
from wrpo.objectives.fusellm import FuseLLMSettings
from wrpo.training.launch import leave_process_group


def main(folder: Path) -> None:
    settings = FuseLLMSettings(clm_weight=0.5)
    weights, trainer = trained(folder, settings, size=3, processes=2)
    if trainer.is_world_process_zero():
        found = {name: logged(trainer, name) for name in ("loss", "clm_loss", "fusion_loss")}
        found["weights"] = [one.tolist() for one in weights]
        (folder / "result.json").write_text(json.dumps(found))
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
