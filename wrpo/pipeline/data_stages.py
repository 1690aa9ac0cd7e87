"""The stages of data construction: what decides their results, and what they read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from wrpo.errors import RecipeError
from wrpo.files import is_file, is_folder
from wrpo.ids import digest
from wrpo.judging import judge_identity
from wrpo.judging.questions import template_name
from wrpo.pipeline.stage import (
    Settings,
    Stage,
    file_digest,
    file_identity,
    model_identity,
    template_identity,
)
from wrpo.recipe import TARGET, Recipe, preference
from wrpo.recipe.build import REFERENCE
from wrpo.recipe.prompts import dataset_responses, explored_datasets
from wrpo.recipe.resolved import (
    answered_domains,
    answering_sources,
    drafting_sources,
    fused_models,
    resolved_sampling,
    routed,
    sampling_by_domain,
    sampling_model,
    taught_question,
)
from wrpo.recipe.revise import QUESTION, REVISED

_OPTIONAL_OF_DATASETS = (
    *("input", "domain_name", "responses", "filters", "max_prompts", "sft_share"),
)


def explore_stage(recipe: Recipe, dataset: str) -> Stage:
    """The prompts of one dataset that a judge makes up."""
    return Stage("explore", {"dataset": dataset}, (), partial(_explore_settings, recipe, dataset))


def _explore_settings(recipe: Recipe, dataset: str) -> Settings:
    settings = explored_datasets(recipe.prompts)[dataset]
    return {
        "seed": recipe.seed,
        **settings.model_dump(mode="json", exclude={"judge"}),
        "judge": judge_identity(settings.judge, recipe.judges[settings.judge]),
    }


def prompts_stage(recipe: Recipe) -> Stage:
    inputs = tuple(f"explore/{name}" for name in explored_datasets(recipe.prompts))
    return Stage("prompts", inputs=inputs, settings=partial(_prompts_settings, recipe))


def _prompts_settings(recipe: Recipe) -> Settings:
    unused = {"max_dropped_share", "expected_prompts"}
    settings = recipe.prompts.model_dump(mode="json", exclude=unused)
    # Steps that are off stay out, so that prompts made without them keep their key.
    settings = {key: value for key, value in settings.items() if value is not None}
    benchmarks = settings.get("decontaminate", {}).get("benchmarks", {})
    for dataset in settings["datasets"].values():
        del dataset["expected_prompts"], dataset["explore"]  # whose stage has it in its key
        for key in [key for key in _OPTIONAL_OF_DATASETS if dataset[key] is None]:
            del dataset[key]
        _leave_out_thinking(dataset.get("responses"))
    for dataset in [*settings["datasets"].values(), *benchmarks.values()]:
        _identify(dataset)
    return {"seed": recipe.seed, **settings}


def _leave_out_thinking(responses: dict[str, Any] | None) -> None:
    """It changes no prompt."""
    if responses:
        del responses["thinking"]


def sample_stage(recipe: Recipe, source: str) -> Stage:
    args, settings = {"source": source}, partial(_sample_settings, recipe, source)
    return Stage("sample", args, ("prompts", "sft") if source == TARGET else ("prompts",), settings)


def _sample_settings(recipe: Recipe, source: str) -> Settings:
    given = dataset_responses(recipe.prompts).get(source)
    if given:  # which rows these are is part of the key of the prompts
        said = {name: dataset.responses for name, dataset in given.items()}
        thinking = {
            n: r.thinking.settings() for n, r in said.items() if r and r.thinking.settings()
        }
        return {"responses_of": sorted(given)} | ({"thinking": thinking} if thinking else {})
    settings = {
        "seed": recipe.seed,
        **answering_models(recipe, source),
        "sampling": resolved_sampling(recipe, source),
    }
    # What is said of no domain stays out, so that responses sampled without it keep their key.
    by_domain, domains = sampling_by_domain(recipe, source), answered_domains(recipe, source)
    settings |= {"sampling_by_domain": by_domain} if by_domain else {}
    settings |= {"domains": sorted(domains)} if domains is not None else {}
    if router := routed(recipe, source):
        settings["router"] = [file_identity(router.file), router.per_prompt]
    return settings


def answering_models(recipe: Recipe, source: str) -> dict[str, Any]:
    """What identifies the model that a source is, or the models that a fusion fuses, and how."""
    fused = fused_models(recipe, source)
    if fused is None:
        return {"model": sampled_model(recipe, source)}
    how = fused.fusion.model_dump(mode="json", include={"method", "boundary", "aggregate", "unit"})
    return {"fusion": how, "members": {name: sampled_model(recipe, name) for name in fused.members}}


def sampled_model(recipe: Recipe, source: str) -> dict[str, Any]:
    """What identifies a model that is sampled or scored; the target's weights are an input."""
    entry = sampling_model(recipe, source)
    model = entry.model_dump(mode="json", include={"dtype", "quantization", "fold_system"})
    model["chat_template"] = template_identity(entry.chat_template)
    if source != TARGET:
        model["model"] = model_identity(entry.model, entry.revision)
    if entry.adapter:
        model["adapter"] = model_identity(entry.adapter)
    if entry.body:
        model["body"] = entry.body
    if entry.thinking.settings():
        model["thinking"] = entry.thinking.settings()
    return model


def revise_stage(recipe: Recipe, source: str) -> Stage:
    """The revised responses of a source, whose scores say which are revised."""
    revision = recipe.revise[source]
    inputs = ["prompts", f"sample/{source}", f"score/{source}"]
    if revision.by not in recipe.sources:
        inputs.append(revision.by)
    return Stage(
        "revise", {"source": source}, tuple(inputs), partial(_revise_settings, recipe, source)
    )


def _revise_settings(recipe: Recipe, source: str) -> Settings:
    revision, name = recipe.revise[source], f"{REVISED}{source}"
    model = revision.by if revision.by in recipe.sources else TARGET
    return {
        "seed": recipe.seed,
        "reviser": sampled_model(recipe, model),
        "question": template_name("revise", revision.template),
        **revision.model_dump(mode="json", include={"share", "gate"}),
        "sampling": {**resolved_sampling(recipe, name), "responses": 1},
        **(_score_settings(recipe) if revision.gate else {}),
    }


def score_stage(recipe: Recipe, source: str) -> Stage:
    extra = [stage for reward in recipe.rewards.values() for stage in reward.extra_inputs()]
    inputs = tuple(dict.fromkeys(["prompts", f"sample/{source}", *extra]))
    return Stage("score", {"source": source}, inputs, partial(_score_settings, recipe))


def _score_settings(recipe: Recipe) -> Settings:
    rewards = {name: reward.key_settings(recipe) for name, reward in recipe.rewards.items()}
    return {"rewards": rewards} | ({"thoughts": True} if recipe.score.thoughts else {})


def build_stage(recipe: Recipe, table: str) -> Stage:
    imported = table in recipe.build.imported.tables()
    rows = "sample" if table == "delta" else "score"
    inputs = ("prompts", *(f"{rows}/{name}" for name in built_from(recipe, table)))
    settings = partial(_build_settings, recipe, table)
    return Stage("build", {"table": table}, () if imported else inputs, settings)


def consistency_stage(recipe: Recipe) -> Stage:
    """The SFT rows after an exam of the target."""
    settings = partial(_consistency_settings, recipe)
    return Stage("consistency", {}, ("build/sft",), settings)


def _consistency_settings(recipe: Recipe) -> Settings:
    settings = recipe.consistency
    assert settings is not None  # a stage of such rows has settings
    return {
        **settings.model_dump(mode="json", exclude={"judge"}),
        "judge": judge_identity(settings.judge, recipe.judges[settings.judge]),
        "target": target_settings(recipe),
    }


def built_from(recipe: Recipe, table: str) -> list[str]:
    """Whose responses a table is built from: sources, then perhaps the target.

    Raises:
        RecipeError: the recipe does not say.
    """
    if table == "delta":
        if recipe.build.delta is None:
            raise RecipeError(
                "an arm trains on data delta, and build.delta does not say whose responses: set "
                "build.delta to {strong: NAME, weak: NAME}"
            )
        return [recipe.build.delta.strong, recipe.build.delta.weak]
    if table == "rejection" and recipe.build.rejection.responses_of == "target":
        return [TARGET]
    if table == "responses":
        return [name for name in imitated(recipe) if name != REFERENCE]
    if table == "revisions":
        return [*drafting_sources(recipe), TARGET]
    if table == "sft":  # what comes after SFT cannot be trained on in it
        revised = [name for name, one in recipe.revise.items() if one.by in recipe.sources]
        revised = [f"{REVISED}{name}" for name in revised if name != TARGET]
        return [*drafting_sources(recipe), *revised]
    return [*answering_sources(recipe), *([TARGET] if table == "triples" else [])]


def imitated(recipe: Recipe) -> list[str]:
    """Whose responses the table responses holds: what the arms name that train on it."""
    everyone = [*answering_sources(recipe), TARGET]
    trained = [recipe.wrpo, *(preference(recipe, arm) for arm in recipe.arms)]
    found = [one.rows_of or everyone for one in trained if one.data == "responses"]
    named = {name for names in found for name in names}
    return [name for name in [*everyone, REFERENCE] if name in named]


def _build_settings(recipe: Recipe, table: str) -> Settings:
    imported = recipe.build.imported.tables().get(table)
    if imported:
        settings = imported.model_dump(mode="json", exclude={"max_dropped_share"})
        # Rows that the target's template cannot render are left out.
        return {"imported": _identify(settings), "target": target_settings(recipe)}
    rules: dict[str, dict[str, Any]] = {
        "sft": {},
        "triples": {"min_gap": recipe.build.min_gap},
        "pairs": recipe.build.pairs.model_dump(
            mode="json", exclude=None if recipe.build.pairs.quantiles else {"quantiles"}
        ),
        "source_pairs": {},
        "rejection": recipe.build.rejection.model_dump(),
        "revisions": recipe.build.revisions.model_dump(),
        "responses": {"of": imitated(recipe)},
    }
    if recipe.build.delta:
        rules["delta"] = recipe.build.delta.model_dump()
    settings = rules[table]
    # Rules that are off stay out, so that tables made without them keep their key.
    if table == "triples" and recipe.build.source_by != "score":
        settings = {**settings, "source_by": recipe.build.source_by}
    if table == "revisions" and taught_question(recipe) != QUESTION:
        settings = {**settings, "question": template_name("revise", taught_question(recipe))}
    without = ("triples", "source_pairs", "delta", "revisions", "responses")
    domains = {} if table in without else recipe.build.domains
    if domains:
        own = {name: rule.model_dump(exclude_defaults=True) for name, rule in domains.items()}
        settings = {**settings, "domains": own}
    if recipe.build.unfinished != "rejected":
        settings = {**settings, "unfinished": recipe.build.unfinished}
    if recipe.target.thinking.settings():
        settings = {**settings, "target_thinking": recipe.target.thinking.settings()}
    if any(rule.sft_needs_pair for rule in domains.values()):
        settings = {**rules["pairs"], **settings}
    return settings


def target_settings(recipe: Recipe) -> Settings:
    """What identifies the target before SFT, and how chats are rendered for it."""
    thinking = recipe.target.thinking.settings()
    return {
        "model": model_identity(recipe.target.model, recipe.target.revision),
        "chat_template": template_identity(recipe.target.chat_template),
        "fold_system": recipe.target.fold_system,
        **({"thinking": thinking} if thinking else {}),
    }


def _identify(dataset: dict[str, Any]) -> dict[str, Any]:
    """The settings of a dataset with what identifies its rows; unset fields of later versions stay
    out."""
    dataset["path"] = data_identity(dataset["path"])
    for name in ("format", "ignore"):
        if dataset[name] is None:
            del dataset[name]
    return dataset


def data_identity(path: str) -> str:
    """`name#digest` for a local file or folder; a hub name as it is."""
    local = Path(path)
    if is_file(local):
        return file_identity(local)
    if is_folder(local):
        files = sorted(file for file in local.rglob("*") if file.is_file())
        content = [[file.relative_to(local).as_posix(), file_digest(file)] for file in files]
        return f"{local.name}#{digest(content)}"
    return path
