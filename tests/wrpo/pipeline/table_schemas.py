"""The schema of every table that a stage writes."""

from wrpo.pipeline.tables import (
    DROPPED,
    LOGPROBS,
    PAIRS,
    PROMPTS,
    RESPONSES,
    SCORES,
    SFT_ROWS,
    TRIPLES,
)

TABLES = {
    "prompts": PROMPTS,
    "responses": RESPONSES,
    "scores": SCORES,
    "sft": SFT_ROWS,
    "triples": TRIPLES,
    "pairs": PAIRS,
    "logprobs": LOGPROBS,
    "dropped": DROPPED,
}
