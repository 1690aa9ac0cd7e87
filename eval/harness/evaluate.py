"""Runs lm-eval for one model: tasks, engine, results.

lm-eval is a heavy import; only `eval.run` imports this module, and only when there is work to do.
"""

from __future__ import annotations

import difflib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_eval
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager

from eval.harness.command_line import EVALUATION_SEED
from eval.harness.load import load_model, release
from eval.harness.models import EvalModel
from eval.harness.results import plain, sample_row
from eval.harness.suite_check import DEFAULT_MAX_GEN_TOKENS, check_suites, suite_facts, task_folders
from eval.tasks.code.programs import SANDBOX_VARIABLE
from wrpo.chat.template import template_hash
from wrpo.errors import RecipeError
from wrpo.ids import digest
from wrpo.pipeline.tables import Row
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.suite import evaluated_tasks, suites_of

if TYPE_CHECKING:
    from lm_eval.tasks.manager import TaskDict

    from eval.harness.load import ChatModel

logger = logging.getLogger(__name__)

BOOTSTRAP_ITERATIONS = 100_000
"""lm-eval's own number; metrics that are means do not use it."""


def task_manager(settings: Eval) -> TaskManager:
    """An index that knows the recipe's tasks; lm-eval's own are indexed only when needed.

    Raises:
        MissingInputError: the folder of tasks is not there.
        RecipeError: a task is unknown.
    """
    names = evaluated_tasks(settings)
    folders = task_folders(settings)
    manager = TaskManager(include_path=folders, include_defaults=False)
    if _unknown(manager, names):
        logger.info("indexing the tasks that come with lm-eval (about 10 s)")
        manager = TaskManager(include_path=folders)
    unknown = _unknown(manager, names)
    if unknown:
        raise RecipeError(
            "\n".join(_explain_unknown(name, manager, settings.include_path) for name in unknown)
        )
    return manager


def evaluate(
    model: EvalModel, settings: Eval, *, manager: TaskManager, engine: dict[str, Any]
) -> tuple[dict[str, Any], list[Row]]:
    """Evaluates one model on the recipe's tasks, greedily or as each task says.

    Args:
        engine: further arguments of the engine, which only decide speed.

    Returns:
        The content of results.json and the rows of the samples table.

    Raises:
        ModelError: the model cannot be loaded.
        TemplateError: the model has no chat template, or its template refuses a prompt.
        RecipeError: the prompt and the response of a task do not fit into the context, a task runs
            code that models write and that is not allowed, or a task is not what a suite says.
        SandboxError: a task runs programs in the sandbox, which this machine does not have.
    """
    if not logger.isEnabledFor(logging.DEBUG):
        logging.getLogger("lm_eval").setLevel(logging.WARNING)
    started = time.monotonic()
    os.environ[SANDBOX_VARIABLE] = settings.sandbox
    loaded = {name: manager.load([name]) for name in evaluated_tasks(settings)}
    suites = suites_of(settings)
    check_suites(suites, loaded)
    unsafe = _allow_code(loaded)
    lm = load_model(model, settings, engine)
    try:
        room = _room_for_prompts(lm, loaded)
        raw = _run(lm, loaded, settings, manager=manager, unsafe=unsafe)
        results = _results(raw, lm, room=room)
        results["members"] = {name: list(found["tasks"]) for name, found in loaded.items()}
        results["suites"] = suite_facts(suites)
        results["model"] = _model_facts(model, settings, lm)
        results["seconds"] = round(time.monotonic() - started, 1)
        return results, _rows(raw, lm)
    finally:
        release(lm)


def _run(
    lm: ChatModel,
    loaded: dict[str, TaskDict],
    settings: Eval,
    *,
    manager: TaskManager,
    unsafe: bool,
) -> dict[str, Any]:
    with _without_list_of_packages():
        raw: dict[str, Any] = lm_eval.simple_evaluate(
            model=lm,
            tasks=_objects(loaded),
            task_manager=manager,
            confirm_run_unsafe_code=unsafe,
            limit=settings.limit,
            apply_chat_template=True,
            log_samples=True,
            bootstrap_iters=BOOTSTRAP_ITERATIONS,
            random_seed=EVALUATION_SEED,
            numpy_random_seed=EVALUATION_SEED,
            torch_random_seed=EVALUATION_SEED,
            fewshot_random_seed=EVALUATION_SEED,
        )
    return raw


@contextmanager
def _without_list_of_packages() -> Iterator[None]:
    """lm-eval runs `pip list` for every model, for seconds; the manifest has the versions."""
    from lm_eval import evaluator

    add_env_info = evaluator.add_env_info
    evaluator.add_env_info = lambda storage: None
    try:
        yield
    finally:
        evaluator.add_env_info = add_env_info


def _unknown(manager: TaskManager, tasks: list[str]) -> list[str]:
    known = set(manager.all_tasks)
    return [name for name in tasks if name not in known]


def _explain_unknown(name: str, manager: TaskManager, folder: Path | None) -> str:
    close = difflib.get_close_matches(name, manager.all_tasks, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "list them with: lm-eval ls tasks"
    own = ""
    if folder is not None:
        local = sorted(TaskManager(include_path=folder, include_defaults=False).all_tasks)
        listed = ", ".join(local) or "none; lm-eval passes over a YAML file that it cannot read"
        own = f" Tasks in {folder}: {listed}"
    return f'eval.tasks: no lm-eval task or group "{name}"; {hint}{own}'


def _objects(loaded: dict[str, TaskDict]) -> list[Any]:
    """What simple_evaluate takes for each name: a group as one object, a tag as its tasks."""
    objects: list[Any] = []
    for name, found in loaded.items():
        group = found.get("groups", {}).get(name)
        objects += list(found["tasks"].values()) if group is None else [group]
    return objects


def _allow_code(loaded: dict[str, TaskDict]) -> bool:
    """Whether a task runs code that a model wrote; lm-eval's own switch must then be set."""
    tasks = [item for found in loaded.values() for item in found["tasks"].items()]
    unsafe = [name for name, task in tasks if getattr(task, "UNSAFE_CODE", False)]
    if unsafe and os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise RecipeError(
            f"eval.tasks: {', '.join(unsafe)} runs code that the models write, with your rights; "
            "humaneval_instruct_sandbox and mbpp_instruct_sandbox of this toolkit run it in a "
            "sandbox. On a machine of its own, allow it with: export HF_ALLOW_CODE_EVAL=1"
        )
    return bool(unsafe)


def _room_for_prompts(lm: ChatModel, loaded: dict[str, TaskDict]) -> dict[str, int]:
    """Tokens left for the prompt of each generation task."""
    room = {}
    for name, task in [item for found in loaded.values() for item in found["tasks"].items()]:
        if task.OUTPUT_TYPE != "generate_until":
            continue
        given = dict(task.config.generation_kwargs or {})
        wanted = normalize_gen_kwargs(given, DEFAULT_MAX_GEN_TOKENS)["max_gen_toks"]
        if wanted >= lm.max_length:
            raise RecipeError(
                f"task {name} generates up to {wanted} tokens, which with its prompt does not fit "
                f"into the context of {lm.max_length}; set a smaller max_gen_toks in the task, or "
                "a larger eval.max_length if the model can take it"
            )
        room[name] = lm.max_length - wanted
    return room


def _rows(raw: dict[str, Any], lm: ChatModel) -> list[Row]:
    return [
        sample_row(task, item, question=lm.prompts.question(str(item["arguments"][0][0])))
        for task, items in raw["samples"].items()
        for item in items
    ]


def _results(raw: dict[str, Any], lm: ChatModel, *, room: dict[str, int]) -> dict[str, Any]:
    tasks, truncated = {}, {}
    for task, samples in raw["samples"].items():
        config = raw["configs"].get(task, {})
        prompt = str(samples[0]["arguments"][0][0])
        tasks[task] = {
            "n": raw["n-samples"][task]["effective"],
            "metrics": _metrics(raw, task),
            "version": raw["versions"].get(task),
            "documents": digest([plain(sample["doc"]) for sample in samples]),
            "num_fewshot": raw["n-shot"].get(task),
            "generation_kwargs": config.get("generation_kwargs"),
            "config": config,
            "first_prompt": {"text": prompt, "token_ids": lm.prompts.encode(prompt)},
        }
        truncated[task] = _count_longer(samples, lm, room.get(task, int(lm.max_length)))
        if truncated[task]:
            logger.warning(
                "%s: %d prompts are longer than the context leaves room for; lm-eval cuts them "
                "from the left. Raise eval.max_length, or lower max_gen_toks of the task",
                task,
                truncated[task],
            )
    return {
        "tasks": tasks,
        "groups": {name: _metrics(raw, name) for name in raw.get("groups", {})},
        "truncated_prompts": truncated,
    }


def _metrics(raw: dict[str, Any], task: str) -> dict[str, Any]:
    """Value and standard error by "metric,filter", lm-eval's own name."""
    values = raw["results"].get(task) or raw.get("groups", {})[task]
    better = raw["higher_is_better"].get(task, {})
    metrics = {}
    for name, value in values.items():
        metric, comma, filter_ = name.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        metrics[name] = {
            "value": value,
            "stderr": values.get(f"{metric}_stderr,{filter_}"),
            "higher_is_better": better.get(metric),
        }
    return metrics


def _count_longer(samples: list[dict[str, Any]], lm: ChatModel, limit: int) -> int:
    prompts = {str(sample["arguments"][0][0]) for sample in samples}
    return sum(len(lm.prompts.encode(prompt)) > limit for prompt in prompts)


def _model_facts(model: EvalModel, settings: Eval, lm: ChatModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": model.path,
        "revision": model.revision,
        "backend": settings.backend,
        "dtype": settings.dtype,
        "device": str(getattr(lm, "device", "vllm")),
        "max_length": lm.max_length,
        "fold_system": model.fold_system,
        "chat_template": lm.prompts.tokenizer.get_chat_template(),
        "chat_template_hash": template_hash(lm.prompts.tokenizer),
        "seed": EVALUATION_SEED,
    }
