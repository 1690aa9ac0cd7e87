"""The model card of a trained model, and what else its folder needs to be handed on.

The card names models and datasets, never paths, commands or anything of the machine. The licence is
that of the target, as its own card states it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wrpo.display.markdown import code, inline
from wrpo.files import is_folder, looks_local, replacing
from wrpo.ids import digest
from wrpo.pipeline.data_stages import data_identity
from wrpo.pipeline.stage import model_identity
from wrpo.recipe import Recipe, preference
from wrpo.recipe.prompts import dataset_responses
from wrpo.recipe.sampling import Model
from wrpo.settings import Section

if TYPE_CHECKING:
    from transformers import PretrainedConfig

logger = logging.getLogger(__name__)

CARD = "README.md"
_LICENCE_FIELDS = ("license", "license_name", "license_link")


def complete_model_folder(
    folder: Path, recipe: Recipe, stage: str, *, facts: dict[str, Any]
) -> None:
    """Adds the card; removes what only training needs.

    `use_cache`, which gradient checkpointing turns off, becomes that of the target again, and the
    pickle of the trainer's arguments goes.

    Args:
        stage: "sft", or the name of an arm or a merge.
        facts: rows, steps and loss of the training.
    """
    (folder / "training_args.bin").unlink(missing_ok=True)
    _restore_use_cache(folder / "config.json", recipe.target)
    with replacing(folder / CARD) as partial:
        partial.write_text(model_card(recipe, stage, facts=facts), encoding="utf-8")


def model_card(recipe: Recipe, stage: str, *, facts: dict[str, Any]) -> str:
    """The text of README.md; arguments as `complete_model_folder`."""
    licence = stated_licence(recipe.target)
    sections = [
        _header(recipe, licence),
        f"# {recipe.run}: {stage}\n\n{_what(recipe, stage)}",
        f"## Models\n\n{_models(recipe)}",
        f"## Training\n\n{_training(recipe, stage, facts)}",
        f"## Data\n\n{_data(recipe)}",
        f"## Licence\n\n{_licence(recipe, licence)}",
    ]
    return "\n\n".join(sections) + "\n"


def stated_licence(target: Model) -> dict[str, str]:
    """`license`, `license_name` and `license_link` of the target's card; those that it states."""
    card = _card_of(target)
    text = card.read_text(encoding="utf-8", errors="replace") if card else ""
    _, opened, rest = text.partition("---\n")
    header, closed, _ = rest.partition("\n---")
    if text.startswith("---\n") and opened and closed:
        try:
            stated = yaml.safe_load(header)
        except yaml.YAMLError:
            stated = None
        if isinstance(stated, dict):
            return {name: str(stated[name]) for name in _LICENCE_FIELDS if stated.get(name)}
    return {}


def _card_of(target: Model) -> Path | None:
    if is_folder(Path(target.model)):
        card = Path(target.model) / CARD
        return card if card.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(target.model, CARD, revision=target.revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        logger.warning("no licence in the model card: that of %s: %s", target.model, error)
        return None


def _header(recipe: Recipe, licence: dict[str, str]) -> str:
    hub = [name for name in (recipe.target.model,) if not _is_local(name)]
    header: dict[str, Any] = {
        **licence,
        **({"base_model": hub[0]} if hub else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["wrpo", "model-fusion"],
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---"


def _is_local(model: str) -> bool:
    return is_folder(Path(model)) or looks_local(model)


def _what(recipe: Recipe, stage: str) -> str:
    target = code(_name(recipe.target))
    if stage == "sft":
        return (
            f"{target} after supervised fine-tuning on the best responses of the sources: the "
            "first step of implicit model fusion (WRPO, arXiv 2412.03187)."
        )
    if stage in recipe.merges:
        merge = recipe.merges[stage]
        return (
            f"{target} after supervised fine-tuning and preference optimisation: "
            f"{', '.join(merge.models)}, merged by {merge.label} with {merge.base} as the base."
        )
    return (
        f"{target} after supervised fine-tuning on the best responses of the sources, and then "
        f"preference optimisation. {preference(recipe, stage).summary()}."
    )


def _models(recipe: Recipe) -> str:
    lines = ["| role | name | model |", "|---|---|---|"]
    lines.append(f"| target | target | {code(_name(recipe.target))} |")
    lines += [f"| source | {name} | {code(_name(one))} |" for name, one in recipe.sources.items()]
    for name, datasets in dataset_responses(recipe.prompts).items():
        lines.append(f"| source | {name} | responses that come with {', '.join(datasets)} |")
    return "\n".join(lines)


def _training(recipe: Recipe, stage: str, facts: dict[str, Any]) -> str:
    settings: Section = recipe.sft if stage == "sft" else _settings(recipe, stage)
    fields = settings.model_dump(mode="json", exclude={"engine"}, exclude_none=True)
    lines = [f"- recipe: `{digest(recipe.model_dump(mode='json'))}`, seed {recipe.seed}"]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join([*lines, "", "```json", json.dumps(fields, indent=1), "```"])


def _settings(recipe: Recipe, stage: str) -> Section:
    return recipe.merges[stage] if stage in recipe.merges else preference(recipe, stage)


def _data(recipe: Recipe) -> str:
    imported = recipe.build.imported.tables().items()
    lines = [f"- imported {table}: {code(data_identity(one.path))}" for table, one in imported]
    lines += [
        f"- prompts `{name}`: {code(data_identity(one.path))}"
        for name, one in recipe.prompts.datasets.items()
    ]
    return "\n".join(lines)


def _licence(recipe: Recipe, licence: dict[str, str]) -> str:
    target = code(_name(recipe.target))
    stated = ", ".join(f"{name}: {inline(value)}" for name, value in licence.items())
    said = f"The card of {target} states {stated}" if stated else f"No card of {target} states one"
    lines = [f"{said}. Terms that may bind its use, too:", ""]
    lines += [f"- those of the source {code(_name(one))}" for one in recipe.sources.values()]
    lines += [f"- those of the dataset `{own}`" for own in recipe.prompts.datasets]
    return "\n".join(lines)


def _name(model: Model) -> str:
    return model_identity(model.model, model.revision)


def _restore_use_cache(path: Path, target: Model) -> None:
    from transformers import AutoConfig

    base: PretrainedConfig = AutoConfig.from_pretrained(
        target.model, revision=target.revision, trust_remote_code=target.trust_remote_code
    )
    use_cache = getattr(base, "use_cache", None)
    config = json.loads(path.read_text(encoding="utf-8"))
    if use_cache is None or config.get("use_cache", use_cache) == use_cache:
        return
    with replacing(path) as partial:
        text = json.dumps({**config, "use_cache": use_cache}, indent=2, sort_keys=True)
        partial.write_text(text + "\n", encoding="utf-8")
