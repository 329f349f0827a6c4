"""Stage train_roi_aware, from volumes to a model with metrics."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline_lib.config.optimisation import Execution, Optimisation
from pipeline_lib.data.pool import pool_positions
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.networks.model_file import load_roi_aware_model
from pipeline_lib.stages.train_roi_aware import run as roi_aware
from pipeline_lib.training.distributed import init_distributed
from pipeline_lib.volumes.store import open_volume
from tests.support.training_world import EXECUTION, FULL_CASES, STRUCTURES, read_history, roi_aware_settings
from tests.support.volume_labels import read_planes


@pytest.mark.parametrize("cases, fraction, held_out", [(4, 0.1, 1), (20, 0.1, 2), (21, 0.1, 3), (10, 0.5, 5)])
def test_held_out_cases_are_a_keyed_share(cases, fraction, held_out):
    names = tuple(f"case_{number}" for number in range(cases))
    settings = roi_aware_settings(held_out_fraction=fraction).model_copy(update={"cases": names})
    learned, kept = roi_aware.split(settings)
    assert len(kept) == held_out
    assert sorted((*learned, *kept)) == sorted(names)
    assert roi_aware.split(settings.model_copy(update={"cases": names[::-1]})) == (learned, kept)
    if cases > 4:
        assert roi_aware.split(settings.model_copy(update={"seed": 1}))[1] != kept


def test_holding_out_every_case_is_refused():
    settings = roi_aware_settings(held_out_fraction=0.9)
    with pytest.raises(UserError, match=r"held_out_fraction: 0\.9 of 4 cases leaves none to learn from"):
        roi_aware.split(settings)


def test_the_metrics_are_those_of_the_saved_model_on_held_out_cases(world, trained_roi_aware):
    outputs = trained_roi_aware
    metrics = read_json(outputs.metrics)
    settings = roi_aware_settings()
    learned, held_out = roi_aware.split(settings)
    assert metrics["held_out"] == list(held_out)
    assert len(learned) == len(FULL_CASES) - 1
    network, description = load_roi_aware_model(outputs.model, "cpu")
    assert tuple(description["structures"]) == STRUCTURES
    volume = open_volume(world.cases("full").parent / held_out[0])
    patches = settings.patches.model_copy(update={"foreground_fraction": 0.5})
    starts = [tuple(map(int, start)) for start in pool_positions(volume.record, patches, settings.seed)]
    images = np.stack([volume.read_image(start, patches.shape) for start in starts]).astype(np.float32) / 325
    probability = torch.sigmoid(network(torch.from_numpy(images)[:, None])).numpy()
    planes = np.stack([read_planes(volume, start, patches.shape)[0] for start in starts])
    for number, name in enumerate(STRUCTURES):
        present = ((planes >> number) & 1).any((1, 2, 3))
        row = metrics["structures"][name]
        assert (row["positives"], row["negatives"]) == (present.sum(), (~present).sum())
        if row["not_scored_because"] is None:
            assert row["brier"] == pytest.approx(np.mean((probability[:, number] - present) ** 2), abs=1e-4)
        else:
            assert present.all() or not present.any()


def test_the_history_covers_the_whole_training(trained_roi_aware):
    rows = read_history(trained_roi_aware.history)
    assert [row["step"] for row in rows] == list(range(1, math.ceil(2 * 3 / 2) + 1))
    assert all(row["loss"]["total"] > 0 for row in rows)
    assert rows[0]["positive"].keys() == set(STRUCTURES)


def test_nothing_is_left_in_the_work_folder(world, trained_roi_aware):
    assert not list((world.root / "work" / "train_roi_aware").iterdir())


def test_a_finished_training_is_restored_without_a_step(world, trained_roi_aware, monkeypatch):
    """The metrics come back too, however the list of cases was remade."""
    monkeypatch.chdir(world.root)
    monkeypatch.setattr(roi_aware, "train", lambda *_, **__: pytest.fail("it trains again"))
    inputs, outputs = world.roi_aware_paths("again")
    roi_aware.run(roi_aware_settings(), EXECUTION, inputs, outputs)
    for name, path in vars(outputs).items():
        assert path.read_bytes() == getattr(trained_roi_aware, name).read_bytes()


def test_other_cases_or_settings_are_another_training(world):
    def identity(**changes) -> str:
        settings = roi_aware_settings().model_copy(update=changes)
        learned, held_out = (
            roi_aware.pooled(names, settings.patches, settings, world.roi_aware_paths()[0])
            for names in roi_aware.split(settings)
        )
        return roi_aware.training_identity(settings, learned, held_out).fingerprint

    first = identity()
    assert first == identity(cases=FULL_CASES[::-1])
    shorter = roi_aware_settings(optimisation=Optimisation(epochs=1, batch_size=2)).roi_aware
    assert len({first, identity(seed=1), identity(cases=FULL_CASES[:-1]), identity(roi_aware=shorter)}) == 4


def test_patches_flipped_along_x_are_patches_of_the_other_side(world):
    """As if liver and spleen were left and right, and the stomach had a side of which there is no other structure."""
    weak = roi_aware_settings().weak.model_copy(update={"flip_probability": (1, 0, 0), "zoom_probability": 0})
    mirrors = {"liver": "spleen", "spleen": "liver", "stomach": None}
    still = roi_aware_settings().model_copy(update={"weak": weak})
    mirrored = still.model_copy(update={"mirrors": mirrors})
    cases = roi_aware.pooled(FULL_CASES, still.patches, still, world.roi_aware_paths()[0])
    with init_distributed(EXECUTION) as distributed:
        data = [roi_aware.training_data(settings, cases, distributed) for settings in (still, mirrored)]
    before, after = (each.view_maker.batch([each.reader.read(sample) for sample in range(4)]) for each in data)
    assert torch.equal(after.weak, before.weak)
    assert torch.equal(after.labels[:, :2], before.labels[:, [1, 0]])
    assert before.labelled_voxels.any(0).all()
    assert not after.labels[:, 2].any()
    assert after.labelled.tolist() == [[True, True, False]] * 4


def test_it_learns_which_balls_are_there(world, monkeypatch):
    monkeypatch.chdir(world.root)
    settings = roi_aware_settings(optimisation=Optimisation(epochs=30, batch_size=3, learning_rate=3e-3))
    inputs, outputs = world.roi_aware_paths("learned")
    roi_aware.run(settings, EXECUTION, inputs, outputs)
    losses = [row["loss"]["total"] for row in read_history(outputs.history)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_gradient_checkpointing_is_refused(world, monkeypatch):
    monkeypatch.chdir(world.root)
    execution = Execution(device="cpu", gradient_checkpointing="all")
    inputs, outputs = world.roi_aware_paths("refused")
    with pytest.raises(UserError, match=r"^roi_aware\.execution\.gradient_checkpointing: .*; leave it out"):
        roi_aware.run(roi_aware_settings(), execution, inputs, replace(outputs))
