"""Packages, GPUs and disk."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from wrpo.doctor.checks import CheckContext, Finding
from wrpo.files import is_folder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.plan.model_shape import shape_of
from wrpo.plan.throughput import devices
from wrpo.recipe import TARGET, Recipe, preference
from wrpo.recipe.executor import RayExecutor
from wrpo.recipe.resolved import resolved_engine
from wrpo.recipe.suite import evaluated_tasks
from wrpo.training.settings import Training

_BYTES_PER_PARAMETER = {"model": 4, "checkpoint": 12}
"""float32 weights; with Adam's state a checkpoint has three numbers per parameter."""
_CHECKPOINTS = 2
_SPARE_GIB = 5


def packages(context: CheckContext) -> Iterator[Finding]:
    """Installed versions against those that the toolkit declares."""
    wanted = wanted_extras(context.recipe)
    wrong = 0
    for requirement, extra in _requirements():
        if extra is not None and extra not in wanted and not _installed(requirement.name):
            continue
        found = _installed(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            continue
        wrong += 1
        needed = extra is None or extra in wanted
        has = f"{found} is installed" if found else "is not installed"
        yield Finding(
            "problem" if needed else "warning",
            requirement.name,
            f"{has}, needs {requirement.specifier or 'any version'}",
            f"pip install '{requirement.name}{requirement.specifier}'",
        )
    if not wrong:
        yield Finding("ok", "packages", "all versions are in the supported ranges")


def gpus(context: CheckContext) -> Iterator[Finding]:
    """What nvidia-smi and torch see, against the largest replica of the recipe."""
    import torch

    seen, usable = devices(), torch.cuda.device_count()
    needed = max(
        (
            (resolved_engine(context.recipe, name).capacity.gpus, name)
            for name in (*context.recipe.sources, TARGET)
        ),
        default=(1, ""),
    )
    if not seen and not usable:
        yield Finding("warning", "GPUs", "none; everything runs on the CPU")
    elif usable < len(seen):
        yield Finding(
            "problem",
            "GPUs",
            f"nvidia-smi shows {len(seen)}, torch {torch.__version__} can use {usable}",
            "install the CUDA build of torch: ENV=cuda make setup, or look at CUDA_VISIBLE_DEVICES",
        )
    else:
        yield Finding("ok", "GPUs", f"{usable} x {torch.cuda.get_device_name(0)}")
    if usable and needed[0] > usable:
        message = f"{needed[1]} wants {needed[0]} GPUs per replica, this machine has {usable}"
        yield Finding("warning", "GPUs", message, "sample it on a larger machine")


def disk(context: CheckContext) -> Iterator[Finding]:
    """Free space against models, checkpoints and downloads of the recipe."""
    recipe = context.recipe
    entry = recipe.target
    shape = shape_of(entry.model, revision=entry.revision, parameters_b=entry.parameters_b)
    if shape is not None:
        trained = trained_sections(recipe).values()
        saves = any(settings.train.get("save_strategy") != "no" for settings in trained)
        wanted = len(trained) * shape.parameters * _BYTES_PER_PARAMETER["model"]
        needs = f"{len(trained)} models of {shape.parameters / 1e9:,.3g}B"
        if saves:  # of the stage at work; finished stages could keep theirs, too
            wanted += _CHECKPOINTS * shape.parameters * _BYTES_PER_PARAMETER["checkpoint"]
            needs += f" and {_CHECKPOINTS} checkpoints"
        yield _space("disk for runs", recipe.runs, wanted, needs)
    yield from _downloads(recipe)


def _downloads(recipe: Recipe) -> Iterator[Finding]:
    from huggingface_hub import constants

    wanted, names = 0.0, []
    sizes = {entry.model: entry.parameters_b for entry in (*recipe.sources.values(), recipe.target)}
    networks = [network for reward in recipe.rewards.values() for network in reward.networks()]
    sizes |= {network.model: None for network in networks}
    for model, parameters_b in sizes.items():
        if is_folder(Path(model)) or _is_cached(model):
            continue
        shape = shape_of(model, parameters_b=parameters_b)
        wanted += 2 * shape.parameters if shape else 0
        names.append(model)
    if names:
        needs = f"{len(names)} models to download in 16 bits, if all go to this machine"
        yield _space("disk for the hub's cache", Path(constants.HF_HUB_CACHE), wanted, needs)


def _space(subject: str, folder: Path, wanted: float, needs: str) -> Finding:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    wanted = wanted / 2**30 + _SPARE_GIB
    message = f"{free:,.0f} GiB free at {there}; {needs} take about {wanted:,.0f} GiB"
    if free < wanted:
        return Finding("warning", subject, message, "make room, or use another folder")
    return Finding("ok", subject, message)


def _is_cached(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:
        return False


def _requirements() -> Iterator[tuple[Requirement, str | None]]:
    """What wrpo declares, with the extra it belongs to; None: always needed."""
    metadata = importlib.metadata.metadata("wrpo")
    extras = metadata.get_all("Provides-Extra") or []
    for text in importlib.metadata.requires("wrpo") or []:
        requirement = Requirement(text)
        if requirement.name == "wrpo":
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            yield requirement, None
            continue
        for extra in extras:
            if extra != "all" and marker.evaluate({"extra": extra}):
                yield requirement, extra


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def wanted_extras(recipe: Recipe) -> set[str]:
    """Names of extras of `pip install wrpo[...]`."""
    stages = Pipeline(recipe).stages
    sampled = [*recipe.sources, *([TARGET] if f"sample/{TARGET}" in stages else [])]
    used = {extra for name in sampled for extra in resolved_engine(recipe, name).extras}
    used |= {extra for reward in recipe.rewards.values() for extra in reward.extras()}
    trained = trained_sections(recipe).values()
    evaluates = bool(evaluated_tasks(recipe.eval) or recipe.eval.judged)
    wanted = {
        "vllm": recipe.logprobs.method == "vllm" or (evaluates and recipe.eval.runs_on_vllm),
        "server": bool(recipe.judges),
        "qlora": any(found.lora is not None and found.lora.quantize for found in trained),
        "flash": any("flash" in (found.engine.attention or "") for found in trained),
        "tracking": any(found.train.get("report_to", "none") != "none" for found in trained),
        "ray": isinstance(recipe.executor, RayExecutor),
        "eval": evaluates or _languages(recipe),
    }
    return used | {name for name, needed in wanted.items() if needed}


def trained_sections(recipe: Recipe) -> dict[str, Training]:
    """The settings of all models that a run trains, by their place in the recipe."""
    arms = {f"arms.{arm}": preference(recipe, arm) for arm in recipe.arms}
    return {"sft": recipe.sft, "wrpo": recipe.wrpo, **arms}


def _languages(recipe: Recipe) -> bool:
    """Whether prompts are chosen by language, with a package that comes with lm-eval."""
    filters = [recipe.prompts.filters, *(d.filters for d in recipe.prompts.datasets.values())]
    return any(found is not None and found.languages for found in filters)
