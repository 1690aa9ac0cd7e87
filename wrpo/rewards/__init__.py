"""Rewards: each gives one number to a response; a recipe combines several by weight.

One file per reward, with its settings and its behaviour; a recipe's `rewards.NAME.type` names it.
"""

from wrpo.rewards.base import Candidate, RewardModel, RewardSettings

__all__ = ["Candidate", "RewardModel", "RewardSettings"]
