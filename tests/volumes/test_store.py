import pickle

import blosc2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import pack
from pipeline_lib.volumes.record import CaseRecord
from pipeline_lib.volumes.store import open_volume, write_image, write_volume
from tests.support.volume_labels import read_planes

SHAPE = (21, 34, 45)
TARGETS = tuple(f"roi_{k}" for k in range(11))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(folder, image D H W, planes 2 D H W) of a random volume."""
    folder = tmp_path_factory.mktemp("volumes") / "set" / "case"
    generator = np.random.default_rng(0)
    image = generator.integers(-325, 326, SHAPE).astype(np.int16)
    planes = pack(generator.random((11, *SHAPE)) < 0.3)
    write_volume(folder, image, planes, record())
    return folder, image, planes


def record() -> CaseRecord:
    return CaseRecord(
        dataset="set",
        case="case",
        targets=TARGETS,
        labelled=TARGETS[:2],
        shape=SHAPE,
        spacing_mm=(0.8, 0.8, 1.5),
        origin_mm=(1, 2, 3),
        original=Geometry(size=(40, 30, 20), spacing_mm=(1, 1, 2), origin_mm=(0, 0, 0)),
        window_hu=(-325, 325),
        voxels={"roi_0": 3},
        foreground={"roi_0": ((1, 2, 3), (4, 5, 6))},
        body=((0, 0, 0), SHAPE),
    )


def test_what_is_written_is_read_back_whole(stored):
    folder, image, planes = stored
    volume = open_volume(folder)
    assert volume.record == record()
    assert volume.shape == SHAPE
    assert np.array_equal(volume.read_image((0, 0, 0), SHAPE), image)
    assert np.array_equal(read_planes(volume, (0, 0, 0), SHAPE), planes)
    assert volume.read_image((0, 0, 0), SHAPE).dtype == np.int16
    assert sorted(path.name for path in folder.iterdir()) == ["case.json", "image.b2nd", "labels.b2nd"]


@given(
    start=st.tuples(*[st.integers(-60, 60)] * 3),
    shape=st.tuples(*[st.integers(1, 50)] * 3),
)
def test_a_box_anywhere_is_the_volume_padded_with_air_and_no_labels(stored, start, shape):
    folder, image, planes = stored
    volume = open_volume(folder)
    padding = [(120, 120)] * 3
    place = tuple(slice(begin + 120, begin + 120 + side) for begin, side in zip(start, shape, strict=True))
    assert np.array_equal(volume.read_image(start, shape), np.pad(image, padding, constant_values=-325)[place])
    assert np.array_equal(read_planes(volume, start, shape), np.pad(planes, [(0, 0), *padding])[(slice(None), *place)])


def test_noisy_chunks_stay_as_they_are_and_smooth_ones_are_packed(tmp_path):
    noise = np.random.default_rng(1).integers(-325, 326, (16, 32, 64)).astype(np.int16)
    ramp = np.broadcast_to(np.arange(32, dtype=np.int16)[:, None], noise.shape)
    image = np.concatenate([ramp, noise, ramp], axis=2)
    write_image(tmp_path / "image.b2nd", image, (-325, 325))
    stored = blosc2.open(str(tmp_path / "image.b2nd"))
    assert [chunk.cratio > 2.5 for chunk in stored.iterchunks_info()] == [True, False, True]
    assert noise.nbytes <= stored.schunk.cbytes < 1.2 * noise.nbytes
    assert np.array_equal(stored[:], image)


def test_few_labels_are_found_wherever_they_are(tmp_path):
    shape = (50, 140, 150)  # several chunks along each axis
    planes = np.zeros((2, *shape), np.uint8)
    places = [(0, 3, 5, 7), (0, 33, 70, 140), (1, 49, 139, 149), (1, 16, 64, 128)]
    for place in places:
        planes[place] = 1
    write_volume(tmp_path, np.zeros(shape, np.int16), planes, record().model_copy(update={"shape": shape}))
    volume = open_volume(tmp_path)
    assert np.array_equal(read_planes(volume, (0, 0, 0), shape), planes)
    for plane, *place in places:
        for shift in ((0, 0, 0), (-4, -6, -8), (-30, -60, -100)):
            start = tuple(np.add(place, shift))
            box = read_planes(volume, start, (31, 61, 101))
            assert box[(plane, *np.negative(shift))] == 1
    assert not read_planes(volume, (20, 0, 0), (10, 140, 150)).any()


@pytest.mark.parametrize("depth", [16, 17, 50])
def test_labels_that_end_in_any_slice_are_read_to_their_end(tmp_path, depth):
    """Whichever slices are the last of a chunk: a label in one slice alone, and nothing above it."""
    shape = (depth, 3, 4)
    for last in range(depth):
        planes = np.zeros((2, *shape), np.uint8)
        planes[1, last, 1, 2] = 1
        folder = tmp_path / str(last)
        write_volume(folder, np.zeros(shape, np.int16), planes, record().model_copy(update={"shape": shape}))
        assert np.array_equal(read_planes(open_volume(folder), (0, 0, 0), shape), planes)


def test_an_opened_volume_can_be_sent_to_another_process(stored):
    folder, image, _ = stored
    volume = open_volume(folder)
    volume.read_image((0, 0, 0), (2, 2, 2))
    again = pickle.loads(pickle.dumps(volume))
    assert np.array_equal(again.read_image((5, 5, 5), (4, 4, 4)), image[5:9, 5:9, 5:9])


def test_a_damaged_or_missing_volume_is_one_line(stored, tmp_path):
    folder, image, planes = stored
    with pytest.raises(UserError, match="is missing"):
        open_volume(tmp_path / "nowhere")
    write_volume(tmp_path / "case", image, planes, record())
    (tmp_path / "case" / "image.b2nd").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"image\.b2nd"):
        open_volume(tmp_path / "case").read_image((0, 0, 0), (1, 1, 1))
    (tmp_path / "case" / "labels.b2nd").write_bytes((folder / "image.b2nd").read_bytes())
    with pytest.raises(UserError, match=r"labels\.b2nd: lacks the note"):
        open_volume(tmp_path / "case").read_codes((0, 0, 0), (1, 1, 1))


def test_labels_as_an_older_version_wrote_them_are_one_line(stored, tmp_path):
    _, image, planes = stored
    write_volume(tmp_path, image, planes, record())
    blosc2.asarray(planes, urlpath=str(tmp_path / "labels.b2nd"), mode="w")
    with pytest.raises(UserError, match=r"labels\.b2nd: has 4 axes instead of 3; delete it and run `snakemake"):
        open_volume(tmp_path).read_codes((0, 0, 0), (1, 1, 1))


def test_planes_that_do_not_fit_the_targets_leave_no_file(tmp_path):
    image = np.zeros(SHAPE, np.int16)
    with pytest.raises(ValueError, match="planes"):
        write_volume(tmp_path / "case", image, np.zeros((1, *SHAPE), np.uint8), record())
    assert not (tmp_path / "case" / "labels.b2nd").exists()
    assert not (tmp_path / "case" / "case.json").exists()


def test_unknown_voxels_come_back_as_bits_beside_those_of_the_labels(stored, tmp_path):
    folder, image, planes = stored
    unknown = pack(np.random.default_rng(1).random((11, *SHAPE)) < 0.1) & ~planes
    write_volume(tmp_path, image, [*planes, *unknown], record())
    volume = open_volume(tmp_path)
    codes = volume.read_codes((0, 0, 0), SHAPE)
    assert np.array_equal(np.moveaxis(volume.combinations[codes], -1, 0), planes)
    assert np.array_equal(np.moveaxis(volume.unknown[codes], -1, 0), unknown)
    assert open_volume(folder).unknown.shape == (0, 2)
    with pytest.raises(ValueError, match="3 planes for 11 targets"):
        write_volume(tmp_path / "odd", image, [*planes, unknown[0]], record())
