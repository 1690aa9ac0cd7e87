"""Log-probs of responses do not depend on the batches in which they are computed."""

from __future__ import annotations

import pytest

import wrpo.prefix.logprobs
from tests.support.tiny_models import tiny_model
from tests.wrpo.prefix.layouts import token_rows
from tests.wrpo.training.batches.made_up_memory import GIB, MadeUp
from wrpo.prefix.logprobs import LogProbPass


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["prefix", "padded"])
def test_batches_grow_to_what_fits_and_scores_stay(layout: str, monkeypatch) -> None:
    rows = token_rows([(200 + i, (90, 40 + i, 30)) for i in range(60)])
    expected = LogProbPass(tiny_model(), pad_token_id=0, batch_tokens=500, layout=layout)(rows)
    device = MadeUp(room=GIB, weights=GIB / 4, each=4e4)
    monkeypatch.setattr(wrpo.prefix.logprobs, "meter_of", lambda _: device)
    model = tiny_model()
    ours = LogProbPass(model, pad_token_id=0, layout=layout)
    tokens = device.follow(model)
    for found, known in zip(ours(rows), expected, strict=True):
        for name, score in known.items():
            assert found[name] == pytest.approx(score, rel=1e-5, abs=1e-4)
    assert max(tokens[:1]) <= 4096 < max(tokens)
    assert max(tokens) <= (0.9 * GIB - GIB / 4) / 4e4
