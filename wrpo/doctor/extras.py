"""Which of the toolkit's optional packages a recipe needs."""

from __future__ import annotations

from wrpo.recipe import TARGET, Recipe, preference
from wrpo.recipe.executor_sections import RayExecutor
from wrpo.recipe.reward_sections import ClassifierEngine, MathReward, ModelReward
from wrpo.recipe.suite import evaluated_tasks
from wrpo.recipe.training_sections import Training
from wrpo.sampling import resolved_engine
from wrpo.stages import Pipeline


def wanted_extras(recipe: Recipe) -> set[str]:
    """Names of extras of `pip install wrpo[...]`."""
    stages = Pipeline(recipe).stages
    sampled = [*recipe.sources, *([TARGET] if f"sample/{TARGET}" in stages else [])]
    backends = {resolved_engine(recipe, name).backend for name in sampled}
    trained = trained_sections(recipe).values()
    wanted = {
        "vllm": "vllm" in backends or _uses_vllm(recipe),
        "server": "openai" in backends or bool(recipe.judges),
        "qlora": any(found.lora is not None and found.lora.quantize for found in trained),
        "flash": any("flash" in (found.engine.attention or "") for found in trained),
        "tracking": any(found.train.get("report_to", "none") != "none" for found in trained),
        "ray": isinstance(recipe.executor, RayExecutor),
        "eval": _evaluates(recipe),
    }
    return {name for name, needed in wanted.items() if needed}


def trained_sections(recipe: Recipe) -> dict[str, Training]:
    """The settings of all models that a run trains, by their place in the recipe."""
    arms = {f"arms.{arm}": preference(recipe, arm) for arm in recipe.arms}
    return {"sft": recipe.sft, "wrpo": recipe.wrpo, **arms}


def _uses_vllm(recipe: Recipe) -> bool:
    """Whether something else than sampling runs on vLLM."""
    engines = [r.engine for r in recipe.rewards.values() if isinstance(r, ModelReward)]
    scoring = any(isinstance(e, ClassifierEngine) and e.backend == "vllm" for e in engines)
    evaluates = _evaluates(recipe) and recipe.eval.backend == "vllm"
    return scoring or evaluates or recipe.logprobs.method == "vllm"


def _evaluates(recipe: Recipe) -> bool:
    """Whether it uses lm-eval or what is installed with it."""
    filters = [recipe.prompts.filters, *(d.filters for d in recipe.prompts.datasets.values())]
    languages = any(found is not None and found.languages for found in filters)
    verified = any(isinstance(reward, MathReward) for reward in recipe.rewards.values())
    return bool(evaluated_tasks(recipe.eval) or recipe.eval.judged or languages or verified)
