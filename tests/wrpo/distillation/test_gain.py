"""What teachers bring a tabular student, beside controls that must not bring it.

A student is a table of logits, token by token. Without controls, smoothing of labels looks like
fusion: it is what a permuted or a uniform teacher does.
"""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from wrpo.distillation.choose import teacher_weights
from wrpo.distillation.settings import Distributions, Learned, TeacherSettings
from wrpo.distillation.table import remainder
from wrpo.objectives.adpa import ADPASettings
from wrpo.objectives.dckd import DCKDSettings
from wrpo.objectives.fusellm import FuseLLMSettings
from wrpo.objectives.profuser import ProFuserSettings

V, LENGTH, TOP_K = 24, 12, 8
SEEDS = range(3)


def sampled(model: Tensor, starts: Tensor, generator: torch.Generator) -> Tensor:
    """Sequences (n, LENGTH + 1) of a bigram model of log-probs (V, V)."""
    found = [starts]
    for _ in range(LENGTH):
        found.append(torch.multinomial(model[found[-1]].exp(), 1, generator=generator)[:, 0])
    return torch.stack(found, 1)


def told(model: Tensor, states: Tensor) -> Distributions:
    """What a bigram model would store at these states (n, L)."""
    logps, ids = model[states].topk(TOP_K)
    rest = remainder(model[states], ids)
    everywhere = torch.ones_like(states, dtype=torch.bool)
    return Distributions(ids, logps, rest, everywhere, torch.ones(len(states)))


def trained(
    settings: TeacherSettings,
    start: Tensor,
    responses: Mapping[str, tuple[Tensor, list[Distributions]]],
    score: Callable[[Tensor], Tensor],
    *,
    steps: int = 40,
) -> float:
    """The best score of a student while it trains on sequences, by name of the response."""
    table = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.1)
    best = -float("inf")
    for step in range(steps):
        learned = {
            name: Learned(table[ids[:, :-1]], ids[:, 1:], torch.ones_like(ids[:, 1:]) > 0, teachers)
            for name, (ids, teachers) in responses.items()
        }
        loss, _ = settings.loss(learned, step / steps)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        best = max(best, float(score(table.detach().log_softmax(-1))))
    return best


def permuted(model: Tensor, generator: torch.Generator) -> Tensor:
    return model[:, torch.randperm(V, generator=generator)]


# ---- two domains on disjoint halves of the vocabulary, each known to one source ------------------


def domains(seed: int) -> tuple[Tensor, list[Tensor], torch.Generator]:
    """The true bigram model, and sources that know the one half or the other."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.full((V, V), -torch.inf)
    half = V // 2
    for own in (slice(0, half), slice(half, V)):
        true[own, own] = 2 * torch.randn(half, half, generator=generator)
    true = true.log_softmax(-1)
    blurred = (0.98 * true.exp() + 0.02 / V).log()
    know_nothing = torch.full((V, V), 1 / V).log()
    sources = []
    for own in (slice(0, half), slice(half, V)):
        source = know_nothing.clone()
        source[own] = blurred[own]
        sources.append(source)
    return true, sources, generator


def fused(seed: int, settings: FuseLLMSettings | ProFuserSettings, teacher: str) -> float:
    """Negative cross-entropy on unseen text of a student that saw four sequences of each domain."""
    true, sources, generator = domains(seed)
    starts = torch.tensor([0, 3, 6, 9, 12, 15, 18, 21])
    text, unseen = (sampled(true, starts.repeat(times), generator) for times in (1, 40))
    costs = [-source[text[:, :-1], text[:, 1:]].mean(1) for source in sources]
    least = [
        teacher_weights({"0": float(one), "1": float(two)}, "min_ce")["1"]
        for one, two in zip(*costs, strict=True)
    ]
    chosen = torch.tensor(least).long()
    if teacher == "max-CE":
        chosen = 1 - chosen
    models = sources
    if teacher == "permuted":
        models = [permuted(source, generator) for source in sources]
    if teacher == "uniform":
        models = [torch.full((V, V), 1 / V).log()] * 2
    each = [told(model, text[:, :-1]) for model in models]
    picked = Distributions(
        *(
            torch.where((chosen == 1).view(-1, *[1] * (a.dim() - 1)), b, a)
            for a, b in zip(*each, strict=True)
        )
    )
    count = 2 if isinstance(settings, ProFuserSettings) else 1
    return trained(
        settings,
        torch.zeros(V, V),
        {"source_chosen": (text, [picked] * count)},
        lambda table: table[unseen[:, :-1], unseen[:, 1:]].mean(),
    )


@pytest.mark.parametrize(
    "settings",
    [FuseLLMSettings(clm_weight=0.5), ProFuserSettings(divergence_weight=1.0)],
    ids=lambda one: one.objective,
)
def test_fusion_gains_and_its_controls_do_not(settings: FuseLLMSettings | ProFuserSettings) -> None:
    alone = FuseLLMSettings(clm_weight=1.0)
    clm = sum(fused(seed, alone, "min-CE") for seed in SEEDS) / len(SEEDS)
    found = {
        teacher: sum(fused(seed, settings, teacher) for seed in SEEDS) / len(SEEDS)
        for teacher in ("min-CE", "max-CE", "permuted", "uniform")
    }
    gain = found.pop("min-CE") - clm
    assert gain > 0.2
    assert all(value - clm < gain / 2 for value in found.values()), (gain, clm, found)
    assert found["permuted"] < clm


# ---- a preference-trained teacher and the model that it was trained from -------------------------


def rewarded(seed: int, settings: TeacherSettings, *, shuffled: bool = False) -> float:
    """Mean true reward of a student after training on eight pairs; pi_dpo ~ pi_ref exp(r)."""
    generator = torch.Generator().manual_seed(seed)
    reward = torch.randn(V, V, generator=generator)
    before = torch.randn(V, V, generator=generator).log_softmax(-1)
    after = (before + reward).log_softmax(-1)
    starts = torch.arange(8)
    good, own = sampled(after, starts, generator), sampled(before, starts, generator)
    teacher, reference = after, before
    if shuffled:
        order = torch.randperm(V, generator=generator)
        teacher, reference = after[:, order], before[:, order]
    teachers = {"chosen": [told(teacher, good[:, :-1])], "rejected": [told(teacher, own[:, :-1])]}
    if isinstance(settings, ADPASettings):
        (stored,) = teachers["rejected"]
        advantage = stored.logps - reference[own[:, :-1]].gather(-1, stored.ids)
        teachers = {"chosen": [], "rejected": [stored._replace(logps=advantage)]}
    return trained(
        settings,
        before,
        {"chosen": (good, teachers["chosen"]), "rejected": (own, teachers["rejected"])},
        lambda table: (table.exp() * reward).sum(-1).mean(),
    )


@pytest.mark.parametrize(
    "settings",
    [
        DCKDSettings(teacher="t", kl_weight=1.0),
        ADPASettings(teacher="t", teacher_reference="r", gamma=1.6),
    ],
    ids=lambda one: one.objective,
)
def test_an_aligned_teacher_raises_the_true_reward_and_a_shuffled_one_does_not(
    settings: TeacherSettings,
) -> None:
    def mean(own: TeacherSettings, **options: bool) -> float:
        return sum(rewarded(seed, own, **options) for seed in SEEDS) / len(SEEDS)

    sft = mean(DCKDSettings(teacher="t", kl_weight=0.0))
    gain = mean(settings) - sft
    assert gain > 0.1
    assert mean(settings, shuffled=True) - sft < gain / 2
