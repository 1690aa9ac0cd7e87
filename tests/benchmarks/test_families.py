"""The comparison of auto with padding, on one family."""

from __future__ import annotations

import pytest

from benchmarks.families import HEADER, compare, parse
from wrpo.prefix.attention import SDPA


@pytest.mark.slow
def test_a_family_is_compared_in_the_attention_that_auto_chose() -> None:
    line = compare("gemma2", "cpu", prompts=2, repeats=1)
    assert (line.family, line.attention) == ("gemma2", SDPA)
    assert line.tokens > 1.5
    assert line.time == line.ratios[0] > 0
    assert len(line.text()) == len(HEADER)
    assert parse([]).only is None
