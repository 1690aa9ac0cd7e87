"""The `lm-eval` command lines that evaluate a model as the toolkit does."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from eval.harness.models import EvalModel
from eval.harness.suite_check import tasks_by_folder
from eval.tasks.code.programs import SANDBOX_VARIABLE
from wrpo.recipe.evaluation import Eval

EVALUATION_SEED = 1234
PLAIN = ("lm-eval", "run")
OURS = ("python", "-m", "eval.lm_eval_cli", "run")


def command_lines(
    model: EvalModel, settings: Eval, *, engine: dict[str, Any], output: Path, plain: bool
) -> list[list[str]]:
    """One command per folder of task files, because the command takes one `--include_path`.

    Args:
        engine: further arguments of the engine.
        output: folder for results and samples.
        plain: with lm-eval's own model classes instead of ours.
    """
    return [
        _command(model, settings, names, folder, engine=engine, output=output, plain=plain)
        for folder, names in tasks_by_folder(settings).items()
    ]


def printed(model: EvalModel, settings: Eval, *, engine: dict[str, Any], output: Path) -> list[str]:
    """The lines of `eval.run --print-command` for one model."""
    lines = [f"# {model.name}: the numbers of python -m eval.run"]
    nested = [name for name, value in engine.items() if isinstance(value, (dict, list))]
    if nested:
        lines.append(f"# without engine.vllm's {', '.join(nested)}, which no model_args can say")
        engine = {name: value for name, value in engine.items() if name not in nested}
    for plain in (False, True):
        if plain and (reason := why_not_plain(model)):
            lines.append(f"# plain lm-eval cannot evaluate it alike: {reason}")
            continue
        if plain:
            lines.append(
                "# plain lm-eval; the same numbers unless generation_config.json or the tokenizer "
                "interferes (docs/evaluation.md)"
            )
        found = command_lines(model, settings, engine=engine, output=output, plain=plain)
        lines += [shlex.join(command) for command in found]
    return lines


def why_not_plain(model: EvalModel) -> str | None:
    """What lm-eval's own classes have no argument for."""
    if model.chat_template is not None:
        return "it takes no chat template from a file"
    if model.thinking.thinks:
        return "it stops in thoughts at the stop texts of tasks, and reads thoughts as answers"
    if model.fold_system:
        return "it drops system turns instead of folding them into the first user turn"
    return None


def _command(
    model: EvalModel,
    settings: Eval,
    tasks: list[str],
    folder: Path | None,
    *,
    engine: dict[str, Any],
    output: Path,
    plain: bool,
) -> list[str]:
    arguments: dict[str, Any] = {
        "pretrained": model.path,
        "revision": model.revision,
        "dtype": settings.dtype,
        "max_length": settings.max_length,
        "trust_remote_code": model.trust_remote_code or None,
    }
    if settings.runs_on_vllm:
        arguments |= {"quantization": model.quantization, **engine}
    if not plain:
        arguments |= {
            "chat_template": model.chat_template,
            "fold_system": model.fold_system or None,
        }
    given = ",".join(f"{key}={value}" for key, value in arguments.items() if value is not None)
    name = settings.backend if plain else f"wrpo-{settings.backend}"
    command = (
        []
        if settings.sandbox == "bubblewrap"
        else ["env", f"{SANDBOX_VARIABLE}={settings.sandbox}"]
    )
    command += [*(PLAIN if plain else OURS), "--model", name, "--model_args", given]
    command += ["--tasks", ",".join(tasks)]
    if folder is not None:
        command += ["--include_path", str(folder)]
    command += ["--apply_chat_template", "--batch_size", str(settings.engine.batch_size)]
    command += ["--seed", str(EVALUATION_SEED)]
    if plain and settings.runs_on_vllm:
        # lm-eval's `hf` and our classes leave control tokens out of responses; its `vllm` does not.
        command += ["--gen_kwargs", "skip_special_tokens=True"]
    if settings.limit is not None:
        command += ["--limit", str(settings.limit)]
    return [*command, "--log_samples", "--output_path", str(output)]
