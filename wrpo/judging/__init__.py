"""Judges: models that give verdicts on responses, with every judgement cached on disk."""

from wrpo.judging.cache import JudgementCache, cache_path
from wrpo.judging.cost import Cost, Tokens
from wrpo.judging.judge import Judge, judge_identity
from wrpo.judging.request import JudgeRequest, Verdict
from wrpo.judging.settings import JudgeModel

__all__ = [
    "Cost",
    "Judge",
    "JudgeModel",
    "JudgeRequest",
    "JudgementCache",
    "Tokens",
    "Verdict",
    "cache_path",
    "judge_identity",
]
