"""How responses are scored and become training rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from wrpo.recipe.prompts import Dataset
from wrpo.settings import Section, Share


class PairRules(Section):
    """Same-source preference pairs (FuseChat-3.0)."""

    min_gap: float = Field(0.01, ge=0.0, description="Smallest score(chosen) - score(rejected).")
    max_gap: float | None = Field(0.1, description="Largest gap; null: no limit.")
    quantiles: tuple[Share, Share] | None = Field(
        None,
        description="[low, high]: the window as quantiles of all gaps of a domain, instead of "
        "min_gap and max_gap, for rewards on another scale than ArmoRM's.",
    )

    @field_validator("quantiles")
    @classmethod
    def _ordered(cls, quantiles: tuple[float, float] | None) -> tuple[float, float] | None:
        if quantiles and quantiles[0] >= quantiles[1]:
            raise ValueError(f"the first must be below the second, not {list(quantiles)}")
        return quantiles

    @model_validator(mode="after")
    def _window(self) -> PairRules:
        if self.max_gap is not None and self.max_gap < self.min_gap:
            raise ValueError(f"max_gap {self.max_gap:g} is below min_gap {self.min_gap:g}")
        return self


class DomainRules(Section):
    """How SFT rows and pairs are chosen for the prompts of one domain (FuseChat-3.0)."""

    verifier: str | None = Field(
        None,
        description="Name of the reward whose value 1 means correct: SFT takes the best "
        "correct response, a pair is the best correct and the worst incorrect one. Unset: the "
        "score decides.",
    )
    window: bool = Field(
        True, description="Keep only pairs with a gap inside the window of `pairs`."
    )
    sft_needs_pair: bool = Field(
        False,
        description="SFT rows only for prompts that could give a pair too, so that sft_share "
        "divides what the window leaves.",
    )


class DeltaRules(Section):
    """Pairs by the names of the models that said them (delta learning)."""

    strong: str = Field(description="Who says the preferred response: a source, or target.")
    weak: str = Field(description="Who says the rejected one.")

    @model_validator(mode="after")
    def _two_models(self) -> DeltaRules:
        if self.strong == self.weak:
            raise ValueError(f"strong and weak are both {self.strong}; name two models")
        return self


class RejectionRules(Section):
    """Which responses pass to supervised learning (rejection sampling)."""

    responses_of: Literal["target", "sources"] = Field(
        "target", description="Whose responses: those of the SFT model, or of all sources."
    )
    keep: int | None = Field(
        1, ge=1, description="Most rows of a prompt, the best first; null: all that pass."
    )
    min_score: float | None = Field(
        None,
        description="Lower scores do not pass; unset: only a verifier decides, if there is one.",
    )


REFERENCE = "reference_answer"
"""Under `rows_of`, beside sources: the reference answers of the prompts, as if they were said."""


class RevisionRules(Section):
    """Which responses a reviser learns to keep, to change a little, to change much (SEFT)."""

    quantiles: tuple[Share, Share] = Field(
        (0.33, 0.67),
        description="Of the gaps between a draft and the best response to its prompt: below the "
        "first, the draft is kept; from the second on, it becomes the best response; between, the "
        "better response that is most like it.",
    )

    @field_validator("quantiles")
    @classmethod
    def _ordered(cls, quantiles: tuple[float, float]) -> tuple[float, float]:
        if quantiles[0] > quantiles[1]:
            raise ValueError(f"the first must not be above the second: {list(quantiles)}")
        return quantiles


class ScoreEngine(Section):
    """How scoring is spread."""

    replicas: int | None = Field(
        None, ge=1, description="Ray: actors, each with all rewards; unset: as many as fit."
    )


class Score(Section):
    """How scoring deals with bad rows."""

    max_dropped_share: Share = Field(0.2, description="The stage stops above this share.")
    thoughts: bool = Field(
        False, description="Rewards read the thoughts of thinking models too, not only the answers."
    )
    engine: ScoreEngine = Field(default_factory=ScoreEngine, description="Speed only.")


class ImportedTable(Dataset):
    """A published or exported training table; columns are inferred from names and values."""

    columns: dict[ColumnName, str] = Field(
        default_factory=dict,
        description="Where a name is not recognised: ours to that of the data.",
    )
    limit: int | None = Field(None, ge=1, description="Only the first rows.")
    max_dropped_share: Share = Field(0.2, description="The stage stops above this share.")


class Imported(Section):
    """Tables that are imported instead of built from scored responses."""

    sft: ImportedTable | None = Field(None, description="Prompts and one response each.")
    triples: ImportedTable | None = Field(
        None, description="source_chosen, chosen, rejected; or chosen = [y_ws, y_wt]."
    )
    pairs: ImportedTable | None = Field(None, description="chosen and rejected.")

    def tables(self) -> dict[str, ImportedTable]:
        """Those that are imported, by name."""
        named = {"sft": self.sft, "triples": self.triples, "pairs": self.pairs}
        return {name: table for name, table in named.items() if table is not None}


class Build(Section):
    """How scored responses become training rows."""

    min_gap: float = Field(
        0.0,
        ge=0.0,
        description="Triples need score(y_wt) - score(y_l) above this; ties never pass.",
    )
    source_by: Literal["score", "votes"] = Field(
        "score",
        description="y_ws of triples. score: the highest; votes: each reward votes for one "
        "response, and most votes win (ties: mean z-score), whatever the weights.",
    )
    pairs: PairRules = Field(default_factory=PairRules, description="Rules of same-source pairs.")
    revisions: RevisionRules = Field(
        default_factory=RevisionRules,
        description="Rules of the table revisions, which an arm trains on that becomes a reviser.",
    )
    delta: DeltaRules | None = Field(
        None, description="Rules of the table delta; needed where an arm trains on it."
    )
    rejection: RejectionRules = Field(
        default_factory=RejectionRules, description="Rules of the table rejection."
    )
    domains: dict[str, DomainRules] = Field(
        default_factory=dict, description="Rules of domains, for SFT rows, pairs and rejection."
    )
    unfinished: Literal["rejected", "any", "never"] = Field(
        "rejected",
        description="What responses that `max_tokens` cut may become: rejected, the rejected "
        "response of a triple or a pair only; any, SFT rows and preferred responses too; never, "
        "nothing. Training gives them no end of turn.",
    )
    imported: Imported = Field(
        default_factory=Imported, description="Tables read as they are, instead of built."
    )


ColumnName = Literal[
    "prompt",
    "completion",
    "source_chosen",
    "chosen",
    "rejected",
    "score",
    "source_chosen_score",
    "chosen_score",
    "rejected_score",
    "source",
    "source_chosen_source",
    "chosen_source",
    "rejected_source",
]
