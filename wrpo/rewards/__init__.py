"""Rewards: each gives one number to an answer; a recipe combines several by weight."""

from wrpo.rewards.base import Candidate, RewardModel, load_reward

__all__ = ["Candidate", "RewardModel", "load_reward"]
