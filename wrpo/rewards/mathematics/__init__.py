"""Final answers of mathematics: where they are in a response, how they are read, when equal."""

from wrpo.rewards.mathematics.answers import Answer, UnreadableAnswerError, read_answer
from wrpo.rewards.mathematics.clean import same_text
from wrpo.rewards.mathematics.equality import Equality
from wrpo.rewards.mathematics.final import last_boxed

__all__ = ["Answer", "Equality", "UnreadableAnswerError", "last_boxed", "read_answer", "same_text"]
