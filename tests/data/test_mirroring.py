"""A patch that is flipped along x shows the left where the right was: labels, flags and scores follow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline_lib.config.augmentation import WeakView
from pipeline_lib.config.method_settings import SupervisedLoss
from pipeline_lib.data.batches import ViewMaker
from pipeline_lib.data.crops import CropPlan, TrainingCase
from pipeline_lib.data.mirroring import mirrored_combinations, mirrored_flags, mirrored_scores
from pipeline_lib.data.reading import CropReader
from pipeline_lib.existence.presence import StructurePresence
from pipeline_lib.methods.supervised_loss import supervised_loss
from pipeline_lib.networks.probabilities import probabilities
from pipeline_lib.volumes.store import open_volume
from tests.support.synthetic import WINDOW, write_masks
from tests.support.tiny_training import PATCH as PATCH_OF_TINY
from tests.support.tiny_training import ROIS as ROIS_OF_TINY
from tests.support.volume_labels import read_planes

SIDES = ("kidney_left", "kidney_right", "liver", "lung_middle_lobe_right")
PARTNERS = (1, 0, 2, None)
SHAPE = (4, 6, 16)
STILL = {"zoom_probability": 0, "noise_probability": 0}


def along(*axes: str) -> WeakView:
    return WeakView(flip_probability=tuple(float(axis in axes) for axis in "xyz"), **STILL)


def box(z, y, x, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


# x grows to the patient's left: the left kidney has the high indices. They differ in height and length.
LEFT = box((0, 2), (1, 3), (11, 14))
RIGHT = box((1, 4), (3, 5), (2, 4))
LIVER = box((2, 4), (0, 2), (1, 7))
LOBE = box((0, 1), (0, 1), (0, 3))


def reader_of(tmp_path, weak, labelled=SIDES, scores=None, partners=PARTNERS, unknown=None) -> CropReader:
    """The only patch of a case is the whole volume."""
    masks = np.stack([LEFT, RIGHT, LIVER, LOBE])
    image = np.where(LEFT, 100, np.where(RIGHT, 200, 0))
    write_masks(tmp_path, "set", "case", SIDES, labelled, image, masks, unknown)
    pool = np.zeros((1, 3), np.int64)
    case = TrainingCase("set", "case", tmp_path / "case", np.isin(SIDES, labelled), pool, scores)
    plan = CropPlan(cases=1, pool_size=1, epochs=8, batch_size=4, seed=0)
    return CropReader((case,), plan, SHAPE, weak, partners)


def batch_of(reader, count=1):
    view_maker = ViewMaker(None, reader.patch, WINDOW, 0, torch.device("cpu"))
    return view_maker.batch([reader.read(sample) for sample in range(count)])


def test_the_left_label_is_where_the_left_structure_lies_after_the_flip(tmp_path):
    """By hand: index x becomes 15 − x, so the mirrored right kidney is now at x 12 to 13, and is the left one."""
    batch = batch_of(reader_of(tmp_path, along("x"), scores=np.array([[0.9, 0.2, 0.5, 0.7]], np.float32)))
    left, right, liver, lobe = batch.labels[0].numpy()
    assert np.array_equal(left, box((1, 4), (3, 5), (12, 14)))
    assert np.array_equal(right, box((0, 2), (1, 3), (2, 5)))
    assert np.array_equal(liver, box((2, 4), (0, 2), (9, 15)))
    assert not lobe.any()
    image = batch.weak[0, 0].numpy() * 325
    assert image[left] == pytest.approx(200, abs=1e-3)
    assert image[right] == pytest.approx(100, abs=1e-3)
    assert batch.labelled.tolist() == [[True, True, True, False]]
    assert batch.scores[0].numpy() == pytest.approx([0.2, 0.9, 0.5, np.nan], nan_ok=True)


@pytest.mark.parametrize(("of", "becomes"), [("kidney_left", "kidney_right"), ("kidney_right", "kidney_left")])
def test_a_patch_that_labels_one_side_labels_the_other_after_the_flip(tmp_path, of, becomes):
    batch = batch_of(reader_of(tmp_path, along("x", "z"), labelled=(of,)))
    assert batch.labelled.tolist() == [[name == becomes for name in SIDES]]
    before = LEFT if of == "kidney_left" else RIGHT
    assert np.array_equal(batch.labels[0, SIDES.index(becomes)].numpy(), before[::-1, :, ::-1])
    assert batch.labels.sum() == before.sum()


@pytest.mark.parametrize("axes", [(), ("y",), ("z",), ("y", "z")])
def test_other_flips_leave_sides_alone(tmp_path, axes):
    batch = batch_of(reader_of(tmp_path, along(*axes), scores=np.array([[0.9, 0.2, 0.5, 0.7]], np.float32)))
    flips = tuple("zyx".index(axis) for axis in axes)
    for label, mask in zip(batch.labels[0].numpy(), (LEFT, RIGHT, LIVER, LOBE), strict=True):
        assert np.array_equal(label, np.flip(mask, flips))
    assert batch.labelled.all()
    assert batch.scores[0].numpy() == pytest.approx([0.9, 0.2, 0.5, 0.7])


@given(st.data(), st.integers(1, 20))
def test_mirroring_twice_changes_nothing(data, count):
    order = data.draw(st.permutations(range(count)))
    partners = list(range(count))
    for one, other in list(zip(order[::2], order[1::2], strict=False))[: data.draw(st.integers(0, count // 2))]:
        partners[one], partners[other] = other, one
    random = np.random.default_rng(count)
    labelled, scores = random.random(count) < 0.5, random.random(count).astype(np.float32)
    combinations = np.packbits(random.random((7, count)) < 0.5, axis=1, bitorder="little")
    for exchange, values in (
        (mirrored_flags, labelled),
        (mirrored_scores, scores),
        (mirrored_combinations, combinations),
    ):
        once = exchange(values, partners)
        assert (once.shape, once.dtype) == (values.shape, values.dtype)
        assert np.array_equal(exchange(once, partners), values)


def test_a_batch_exchanges_sides_in_exactly_the_samples_that_are_flipped_along_x(tiny):
    """A loop over samples and names, with liver and spleen for left and right; cases label different ROIs."""
    becomes = {"liver": "spleen", "spleen": "liver"}
    partners = tuple(ROIS_OF_TINY.index(becomes.get(name, name)) for name in ROIS_OF_TINY)
    weak = WeakView(flip_probability=(0.5, 0.5, 0.5), **STILL)
    reader = CropReader(tiny.cases, tiny.plan, PATCH_OF_TINY, weak, partners)
    regions = [reader.read(sample) for sample in range(20)]
    batch = tiny.view_maker().batch(regions)
    flipped = 0
    for sample, region in enumerate(regions):
        crop = tiny.plan.crop(sample)
        case = tiny.cases[crop.case]
        planes = read_planes(open_volume(case.folder), tuple(map(int, case.pool[crop.position])), PATCH_OF_TINY)
        bits = np.unpackbits(planes, axis=0, count=len(ROIS_OF_TINY), bitorder="little")
        for number, name in enumerate(ROIS_OF_TINY):
            source = ROIS_OF_TINY.index(becomes.get(name, name)) if 2 in region.draw.axes else number
            assert np.array_equal(batch.labels[sample, number].numpy(), np.flip(bits[source], region.draw.axes))
            assert batch.labelled[sample, number] == case.labelled[source]
            assert batch.scores[sample, number] == case.scores[crop.position][source]
        flipped += 2 in region.draw.axes
    assert 4 < flipped < 16


class Fixed(nn.Module):
    """The same logits for every patch."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, image):
        return self.logits.expand(len(image), -1)


@pytest.mark.parametrize("flipped", [False, True])
def test_the_roi_aware_network_learns_the_side_that_a_patch_shows(tmp_path, flipped):
    """The patch holds the left kidney and the middle lobe; mirrored it holds a right one, and who knows which lobe."""
    masks = np.stack([LEFT, np.zeros_like(LEFT), np.zeros_like(LEFT), LOBE])
    reader = reader_of(tmp_path, along("x") if flipped else along())
    write_masks(tmp_path, "set", "other", SIDES, SIDES, np.zeros(SHAPE), masks)
    reader.cases = (replace(reader.cases[0], folder=tmp_path / "other"),)
    logits = [0.5, -1.0, 2.0, 3.0]
    found = StructurePresence(Fixed(logits), SIDES, 1).losses({"student": Fixed(logits)}, batch_of(reader), 0.0)
    target = {0: 0, 1: 1, 2: 0} if flipped else {0: 1, 1: 0, 2: 0, 3: 1}
    terms = [
        -np.log(1 / (1 + np.exp(-logits[number] if present else logits[number]))) for number, present in target.items()
    ]
    assert found.total.tolist() == pytest.approx([np.mean(terms)], rel=1e-6)
    assert found.counts["positive"].tolist() == [[target.get(number) == 1 for number in range(4)]]


@pytest.mark.parametrize(("partners", "told_apart"), [((1, 0), True), ((), False)])
def test_two_one_sided_rois_are_told_apart_although_patches_are_flipped(tmp_path, partners, told_apart):
    """Equal kidneys beside a brighter spine. One data set labels the left, the other the right one."""
    shape, sides = (4, 4, 24), ("kidney_left", "kidney_right")
    random, cases = np.random.default_rng(0), []
    for number in range(6):
        spine = int(random.integers(9, 15))
        y = int(random.integers(3))
        masks = np.stack([box((1, 3), (y, y + 2), (spine + side - 1, spine + side + 2), shape) for side in (5, -5)])
        image = np.where(masks.any(0), 100.0, np.where(np.arange(24) == spine, 300, -200))
        case = f"case_{number}"
        write_masks(tmp_path, "set", case, sides, sides[number % 2 :][:1], image, masks)
        labelled = np.isin(sides, sides[number % 2])
        cases.append(TrainingCase("set", case, tmp_path / case, labelled, np.zeros((1, 3), np.int64)))
    plan = CropPlan(cases=6, pool_size=1, epochs=120, batch_size=6, seed=0)
    reader = CropReader(tuple(cases), plan, shape, WeakView(flip_probability=(0.5, 0, 0), **STILL), partners)
    view_maker = ViewMaker(None, shape, WINDOW, 0, torch.device("cpu"))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 8, (1, 1, 13), padding="same"), nn.ReLU(), nn.Conv3d(8, 2, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-2)
    for step in range(plan.steps):
        batch = view_maker.batch([reader.read(sample) for sample in plan.samples(step, 0, 1)])
        loss = supervised_loss(network(batch.weak), batch.labels, batch.labelled, SupervisedLoss()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = probabilities(network(torch.from_numpy(image / 325).float()[None, None]))[0].numpy()
    inside = np.array([[found[roi][mask].mean() for roi in range(2)] for mask in masks])
    assert (inside.diagonal().min() > 0.9 and inside[[0, 1], [1, 0]].max() < 0.1) == told_apart, inside


def test_what_is_unknown_of_the_left_side_is_unknown_of_the_right_one_after_the_flip(tmp_path):
    unknown = np.stack([RIGHT, box((3, 4), (5, 6), (0, 1)), LOBE, LOBE]) & ~np.stack([LEFT, RIGHT, LIVER, LOBE])
    labelled = ("kidney_left", "kidney_right", "lung_middle_lobe_right")
    batch = batch_of(reader_of(tmp_path, along("x"), labelled, unknown=unknown))
    flipped = unknown[..., ::-1]
    expected = np.stack([~flipped[1], ~flipped[0], np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)])
    assert np.array_equal(batch.known[0].numpy(), expected)


def test_only_batches_with_such_a_case_have_unknown_voxels(tmp_path):
    without = reader_of(tmp_path / "without", along())
    assert batch_of(without).known is None
    unknown = np.zeros((4, *SHAPE), bool)
    unknown[2] = LEFT
    partly = reader_of(tmp_path / "with", along(), unknown=unknown)
    makes_views = ViewMaker(None, SHAPE, WINDOW, 0, torch.device("cpu"))
    both = makes_views.batch([without.read(0), partly.read(0)]).known.numpy()
    assert both[0].all()
    assert np.array_equal(both[1], ~unknown)
