"""Rewards: each gives one number to an answer; a recipe combines several by weight."""

from data_construction.rewards.base import Candidate, RewardModel, load_reward

__all__ = ["Candidate", "RewardModel", "load_reward"]
