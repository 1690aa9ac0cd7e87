"""What all rewards share."""

from __future__ import annotations

from pydantic import Field

from wrpo.recipe.section import Section


class RewardSection(Section):
    """What all rewards share."""

    weight: float = Field(1.0, description="Factor of this reward in the combined score.")
    domains: list[str] | None = Field(
        None,
        min_length=1,
        description="Only prompts of these domains; to others it gives no number. Unset: all.",
    )

    def covers(self, domain: str) -> bool:
        """Whether this reward counts for prompts of a domain."""
        return self.domains is None or domain in self.domains
