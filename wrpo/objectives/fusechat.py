"""FuseChat's pairwise fusion: FuseLLM with one source, after which the models are merged.

One arm per source (`teachers: [NAME]`), all from the SFT model, then `merges` with VaRM (FuseChat
1.0, arXiv 2402.16107) or SCE (2.0, arXiv 2408.07990). c_m counts response tokens only, as all of
this toolkit does, and tokens are mapped by mapping statistics.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wrpo.distillation.alignment import VocabularyMap
from wrpo.objectives.fusellm import FuseLLMSettings


class FuseChatSettings(FuseLLMSettings):
    """FuseLLM on the set of the SFT model and one source."""

    label: ClassVar[str] = "FuseChat, one pair"
    phrase: ClassVar[str] = "FuseChat's fusion of one pair"

    objective: Literal["fusechat"] = "fusechat"  # type: ignore[assignment]
    teachers: list[str] = Field(min_length=1, max_length=1, description="The source of the pair.")
    vocabulary: VocabularyMap = Field(
        "statistics",
        description="How tokens of teachers become the target's: docs/explicit-fusion.md.",
    )

    @property
    def unshifted(self) -> bool:
        """FuseChat's code shifts its mask and labels."""
        return False
