"""Who responses the prompts of a run, and with which sampling fields."""

from __future__ import annotations

from typing import Any

from wrpo.engines import EngineSettings
from wrpo.engines.vllm import VLLMSettings
from wrpo.errors import RecipeError
from wrpo.recipe import TARGET, Model, Recipe
from wrpo.recipe.fusions import FusedModels
from wrpo.recipe.prompts import dataset_responses
from wrpo.recipe.revise import QUESTION, REVISED, Revision, revised_source
from wrpo.recipe.sampling import ENGINES, SampleRouter
from wrpo.recipe.yaml_source import merge

_NOT_SAMPLING = {"target", "domains", "engine", "max_dropped_share", "router"}


def answering_sources(recipe: Recipe) -> list[str]:
    """All teachers by name: models that are sampled, fusions of them, responses that come with
    datasets, then those that are revised."""
    return [*drafting_sources(recipe), *(f"{REVISED}{name}" for name in recipe.revise)]


def drafting_sources(recipe: Recipe) -> list[str]:
    """All teachers whose responses need no scores to be made."""
    return [*recipe.sources, *recipe.fusions, *dataset_responses(recipe.prompts)]


def reviser(recipe: Recipe, source: str) -> Revision | None:
    """How the responses of a source are revised into those of this name; None: they are not."""
    return recipe.revise.get(revised_source(source) or "")


def taught_question(recipe: Recipe) -> str:
    """What a reviser that is an arm is asked, in training as later: they all share one question."""
    asked = (one.template for one in recipe.revise.values() if one.by in recipe.arms)
    return next(asked, QUESTION)


def check_source(recipe: Recipe, source: str) -> None:
    """Whether the run has responses by that name.

    Raises:
        RecipeError: no source of that name.
    """
    known = [*answering_sources(recipe), TARGET]
    if source not in known:
        raise RecipeError(f'no source "{source}" in recipe {recipe.run}; known: {", ".join(known)}')


def sampling_model(recipe: Recipe, source: str) -> Model:
    """The recipe entry of a source, or of the target.

    Raises:
        RecipeError: no source of that name, or one that is no model: a fusion, or one whose
            responses come with a dataset.
    """
    check_source(recipe, source)
    if source == TARGET:
        return recipe.target
    revision = reviser(recipe, source)
    if revision is not None:
        raise RecipeError(
            f"{source} has no model of its own: {revision.by} revises the responses of "
            f"{revised_source(source)}"
        )
    if source in recipe.fusions:
        members = ", ".join(recipe.fusions[source].members)
        raise RecipeError(f"{source} has no model of its own: it fuses the responses of {members}")
    datasets = dataset_responses(recipe.prompts).get(source)
    if datasets:
        raise RecipeError(
            f"{source} has no model: its responses come with the dataset {', '.join(datasets)}"
        )
    return recipe.sources[source]


def answering_entry(recipe: Recipe, source: str) -> Model:
    """What says how a source answers: its entry, one that stands for the members of a fusion, or
    that of the reviser of its responses.

    Raises:
        RecipeError: no source of that name, or one whose responses come with a dataset.
    """
    revision = reviser(recipe, source)
    if revision is not None:
        model = recipe.sources.get(revision.by, recipe.target)
        return model.model_copy(update={"sampling": revision.sampling})
    fusion = recipe.fusions.get(source)
    if fusion is None:
        return sampling_model(recipe, source)
    return Model(model=" + ".join(fusion.members), sampling=fusion.sampling, engine=fusion.engine)


def fused_models(recipe: Recipe, source: str) -> FusedModels | None:
    """The members of a fusion; None for a source that is none.

    They come in the order of their names, whatever the order in which the recipe names them.
    """
    fusion = recipe.fusions.get(source)
    if fusion is None:
        return None
    return FusedModels(fusion, {name: recipe.sources[name] for name in sorted(fusion.members)})


def answered_domains(recipe: Recipe, source: str) -> list[str] | None:
    """The domains whose prompts a source, or the target, responses; None: all."""
    source = revised_source(source) or source
    if source in recipe.fusions:
        return recipe.fusions[source].domains
    return None if source == TARGET else recipe.sources[source].domains


def routed(recipe: Recipe, source: str) -> SampleRouter | None:
    """The router that a source's prompts are chosen by; None: it is asked all."""
    source = revised_source(source) or source
    return recipe.sample.router if source in recipe.sources else None


def resolved_sampling(recipe: Recipe, source: str, domain: str | None = None) -> dict[str, Any]:
    """The sampling fields of one source, for prompts of one domain.

    What is said of the source, or of the target, wins over what is said of the domain.
    """
    fields = recipe.sample.model_dump(mode="json", exclude=_NOT_SAMPLING)
    overrides = [answering_entry(recipe, source).sampling]
    if domain in recipe.sample.domains:
        overrides.insert(0, recipe.sample.domains[domain])
    if source == TARGET:
        overrides.append(recipe.sample.target)
    for over in overrides:
        fields |= over.model_dump(exclude_none=True)
    return fields


def sampling_by_domain(recipe: Recipe, source: str) -> dict[str, dict[str, Any]]:
    """The sampling fields of one source in the domains where they are not the usual ones."""
    usual, domains = resolved_sampling(recipe, source), answered_domains(recipe, source)
    found = {
        domain: resolved_sampling(recipe, source, domain)
        for domain in recipe.sample.domains
        if domains is None or domain in domains
    }
    return {domain: fields for domain, fields in found.items() if fields != usual}


def longest_sampled(recipe: Recipe, source: str) -> tuple[int, int]:
    """Most tokens of a prompt and of a response, over all domains of a source."""
    usual = resolved_sampling(recipe, source)
    every = [usual, *sampling_by_domain(recipe, source).values()]
    return int(usual["max_prompt_tokens"]), max(int(fields["max_tokens"]) for fields in every)


def resolved_engine(recipe: Recipe, source: str) -> EngineSettings:
    """The engine settings of one source after its own overrides.

    Of `sample.engine`, a source inherits the fields that its backend knows.
    """
    fields = _engine_fields(recipe, source)
    kind = ENGINES[fields["backend"]]
    return kind.model_validate(_known(fields, kind))


def vllm_engine(recipe: Recipe, source: str) -> VLLMSettings:
    """How vLLM runs the model of a source outside of sampling: its fields that vLLM knows."""
    fields = {**_engine_fields(recipe, source), "backend": "vllm"}
    return VLLMSettings.model_validate(_known(fields, VLLMSettings))


def _engine_fields(recipe: Recipe, source: str) -> dict[str, Any]:
    engine = recipe.sample.engine
    base = {**engine.model_dump(exclude_defaults=True), "backend": engine.backend}
    fields = merge(base, answering_entry(recipe, source).engine.model_dump(exclude_none=True))
    return {**fields, "backend": "fused"} if source in recipe.fusions else fields


def _known(fields: dict[str, Any], kind: type[EngineSettings]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key in kind.model_fields}
