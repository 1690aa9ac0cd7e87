"""Nothing cuts a batch: each entry of SLICERS is refused, and all else leaves batches whole."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from tests.wrpo.training.small_training import ROUNDING, whole_batch
from wrpo.errors import RecipeError
from wrpo.training.batches.slicing import SLICERS, refuse_slicing

HARMFUL = {
    "accelerator_config.dispatch_batches": True,
    "parallelism_config.cp_size": 2,
    "parallelism_config.sp_size": 2,
    "parallelism_config.tp_size": 2,
}


@pytest.mark.parametrize("slicer", SLICERS, ids=lambda slicer: slicer.option)
def test_every_slicer_is_refused_by_its_name(slicer) -> None:
    section, _, name = slicer.option.partition(".")
    plain = {"accelerator_config": None, "parallelism_config": None}
    for value in slicer.harmless:
        refuse_slicing(SimpleNamespace(**{**plain, section: SimpleNamespace(**{name: value})}))
    divided = SimpleNamespace(**{name: HARMFUL[slicer.option]})
    with pytest.raises(RecipeError, match=rf"^{slicer.option} is "):
        refuse_slicing(SimpleNamespace(**{**plain, section: divided}))


def test_the_trainer_refuses_a_dispatching_loader(make_trainer) -> None:
    with pytest.raises(RecipeError, match="dispatch_batches"):
        make_trainer(accelerator_config={"dispatch_batches": True})


def test_what_the_launcher_sets_is_refused_too() -> None:
    args = SimpleNamespace(accelerator_config=None, parallelism_config=None)
    with pytest.raises(RecipeError, match="parallelism_config.cp_size is 2"):
        refuse_slicing(args, parallelism=SimpleNamespace(cp_size=2))


@pytest.mark.parametrize("layout", ["padded", "prefix"])
def test_streamed_evaluation_beside_stored_rows_has_the_same_loss(make_trainer, triples, layout):
    streamed = triples.to_iterable_dataset()
    options = {"triple_layout": layout, "alpha": 0.3}
    stored, beside = (
        make_trainer(eval_dataset=rows, **options).evaluate() for rows in (triples, streamed)
    )
    assert beside["eval_loss"] == pytest.approx(stored["eval_loss"], rel=ROUNDING)
    for name in ("eval_lengths/chosen", "eval_logps/source_chosen"):
        assert beside[name] == pytest.approx(stored[name], rel=ROUNDING)


@pytest.mark.parametrize("split_batches", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("layout", ["padded", "prefix"])
def test_each_of_two_processes_gets_whole_batches(make_trainer, split_batches, streamed, layout):
    trainer = make_trainer(triple_layout=layout)
    rows = trainer.train_dataset.to_iterable_dataset() if streamed else trainer.train_dataset
    seen = []
    for rank in range(2):
        loader = prepare_data_loader(
            DataLoader(rows, batch_size=4, collate_fn=trainer.data_collator),
            num_processes=2,
            process_index=rank,
            split_batches=split_batches,
            dispatch_batches=trainer.accelerator.dataloader_config.dispatch_batches,
            use_seedable_sampler=False,
        )
        for batch in loader:
            prompts, responses = batch["lengths"].shape
            assert prompts == (2 if split_batches else 4)
            scored = batch["response_index"] < prompts * responses
            assert scored.sum() == batch["lengths"].sum()
            seen.append(batch["lengths"])
    everything = whole_batch(trainer)["lengths"]
    assert sorted(torch.cat(seen).tolist()) == sorted(everything.tolist())


def test_a_process_that_sees_several_gpus_trains_on_one(make_trainer, monkeypatch):
    from wrpo.config import WRPOConfig

    monkeypatch.setattr(WRPOConfig, "n_gpu", property(lambda args: 1 if args._n_gpu == 1 else 4))
    assert make_trainer().args.n_gpu == 1


def test_a_batch_that_was_cut_all_the_same_is_refused(make_trainer) -> None:
    trainer = make_trainer(triple_layout="padded")
    batch = whole_batch(trainer)
    prompts = len(batch["lengths"])
    cut = {name: value[:prompts] for name, value in batch.items()}
    with pytest.raises(RecipeError, match="a batch has 8 rows for 24 responses"):
        trainer.compute_loss(trainer.model, cut)
