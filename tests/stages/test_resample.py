"""The stages volumes, case_list and split_rois, through their command lines or run()."""

import csv
import hashlib
import json
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.labelling import Labelling
from pipeline_lib.config.layouts import Layout
from pipeline_lib.config.volumes import Patches, Volumes
from pipeline_lib.data.pool import pool_positions
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import plane_mask, read_roi_bits, roi_mask, write_roi_bits
from pipeline_lib.stages.list_cases import run as case_list
from pipeline_lib.stages.list_cases.settings import Settings as ListCasesSettings
from pipeline_lib.stages.resample import run as resample
from pipeline_lib.stages.resample.case import read_case, resample_case
from pipeline_lib.stages.resample.lost import why_incomplete
from pipeline_lib.stages.resample.settings import CaseSettings, Execution
from pipeline_lib.stages.resample.settings import Settings as ResampleSettings
from pipeline_lib.tools.split_rois import split_rois
from pipeline_lib.volumes.batch_list import listed_cases
from pipeline_lib.volumes.resampling import image_volume, masks_on_original_grid
from pipeline_lib.volumes.store import Volume, open_volume
from tests.support.volume_labels import read_planes

TARGETS = ("liver", "liver_tumor", "kidney", "a", "b", "c", "d", "e", "kidney_tumor")
LABELS = {"kidney": (1, 2), "kidney_tumor": (2,)}
SPACING = (1.5, 1.5, 2.0)
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "ct"

needs_shared = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason="no real cases beside the checkout"),
]


def anatomy() -> tuple[np.ndarray, np.ndarray, Geometry]:
    """HU and label map (D H W) of a body with a tumour in a kidney, nothing about it symmetric, and their grid."""
    grid = Geometry(size=(34, 26, 18), spacing_mm=(2, 2.5, 3), origin_mm=(-40, -30, 100))
    z, y, x = np.indices(grid.shape)
    hu = np.full(grid.shape, -1000, np.int16)
    hu[2:16, 4:22, 3:30] = 20
    hu[4:14, 8:20, 18:26] = 120
    hu += (5 * x - 3 * y + 2 * z).astype(np.int16)
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[4:14, 8:20, 18:26] = 1
    label_map[8:13, 14:20, 18:22] = 2
    return hu, label_map, grid


def settings(layout="msd", labels=LABELS, targets=TARGETS, case="c", root=".", spacing=SPACING) -> CaseSettings:
    return CaseSettings(
        dataset="set",
        layout=layout,
        root=root,
        labels=labels,
        ignored_labels=(),
        case=case,
        targets=targets,
        volumes=Volumes(spacing_mm=spacing),
    )


def make(chosen: CaseSettings, raw: Path, folder: Path) -> Volume:
    resample_case(chosen, raw, folder)
    return open_volume(folder)


def whole(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    return volume.read_image((0, 0, 0), volume.shape), read_planes(volume, (0, 0, 0), volume.shape)


def write_msd(raw: Path, hu: sitk.Image, label_map: sitk.Image, case: str = "c") -> None:
    for folder, image in (("imagesTr", hu), ("labelsTr", label_map)):
        (raw / folder).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(raw / folder / f"{case}.nii.gz"))


@pytest.fixture(scope="module")
def upright(tmp_path_factory) -> tuple[np.ndarray, np.ndarray]:
    """Image and label planes of the anatomy stored in the canonical order."""
    raw = tmp_path_factory.mktemp("upright")
    hu, label_map, grid = anatomy()
    write_msd(raw, grid.image(hu), grid.image(label_map))
    return whole(make(settings(), raw, raw / "volume"))


@pytest.mark.parametrize("order", [*permutations(range(3))])
@pytest.mark.parametrize("flips", [*product((False, True), repeat=3)])
def test_the_same_anatomy_in_any_axis_order_is_the_same_volume(tmp_path, upright, order, flips):
    hu, label_map, grid = anatomy()

    def stored(array: np.ndarray) -> sitk.Image:
        return sitk.Flip(sitk.PermuteAxes(grid.image(array), order), flips, flipAboutOrigin=False)

    write_msd(tmp_path, stored(hu), stored(label_map))
    image, planes = whole(make(settings(), tmp_path, tmp_path / "volume"))
    assert np.array_equal(image, upright[0])
    assert np.array_equal(planes, upright[1])


def test_an_oblique_scan_of_the_same_anatomy_is_nearly_the_same_volume(tmp_path, upright):
    hu, label_map, grid = anatomy()
    turn = sitk.Euler3DTransform(tuple(grid.corners_mm().mean(axis=0)), 0.1, -0.15, 0.2)
    axes = np.reshape(turn.GetMatrix(), (3, 3))
    tilted = Geometry(size=(52, 48, 40), spacing_mm=(1.8, 1.8, 2), origin_mm=(0, 0, 0), direction=turn.GetMatrix())
    middle = grid.corners_mm().mean(axis=0) - axes @ (np.array(tilted.spacing_mm) * (np.array(tilted.size) - 1) / 2)
    tilted = tilted.model_copy(update={"origin_mm": tuple(middle)})
    assert tilted.is_oblique

    def scanned(array: np.ndarray, interpolator: int, outside: float) -> sitk.Image:
        reference = tilted.image(np.zeros(tilted.shape, np.uint8))
        return sitk.Resample(grid.image(array), reference, sitk.Transform(), interpolator, outside, sitk.sitkInt16)

    write_msd(tmp_path, scanned(hu, sitk.sitkLinear, -1000), scanned(label_map, sitk.sitkNearestNeighbor, 0))
    volume = make(settings(), tmp_path, tmp_path / "volume")
    image, planes = whole(volume)
    offset = (np.array(grid.at_spacing(SPACING).origin_mm) - volume.record.origin_mm) / SPACING
    start = np.rint(offset).astype(int)[::-1]
    place = tuple(slice(low, low + side) for low, side in zip(start, upright[0].shape, strict=True))
    # The grids of the two volumes lie up to half a voxel apart, so edges differ and the inside does not.
    assert np.median(np.abs(image[place].astype(int) - upright[0])) < 5
    assert np.corrcoef(image[place].ravel(), upright[0].ravel())[0, 1] > 0.9
    for target in (2, 8):
        here, there = plane_mask(planes, target)[place], plane_mask(upright[1], target)
        assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.85


def test_what_the_window_cuts_off_is_kept_for_pictures_and_changes_nothing_of_the_volume(tmp_path, upright):
    hu, label_map, grid = anatomy()
    write_msd(tmp_path, grid.image(hu), grid.image(label_map))
    volume = make(settings(), tmp_path, tmp_path / "volume")
    low, high = volume.record.window_hu
    assert np.array_equal(upright[0], image_volume(grid.image(hu), volume.record.grid, (low, high)))
    picture = volume.read_picture()
    wanted = image_volume(grid.image(hu), volume.record.grid, (-1300.0, high)).astype(int)
    assert wanted.min() < -1000 < low
    assert np.array_equal(picture[wanted > low], wanted[wanted > low])
    # HU change by 5, 3 and 2 from voxel to voxel: hardly within a block of eight, but for the body's edge.
    assert np.median(np.abs(picture - wanted)[wanted <= low]) <= 8
    assert volume.pictured_hu == (-np.inf, high)


@pytest.mark.parametrize(("scaled", "told"), [(False, False), (True, True)])
def test_an_image_that_is_not_in_hu_is_told_of_with_the_key(tmp_path, capsys, scaled, told):
    hu, label_map, grid = anatomy()
    image = ((hu + 1000) / 1200).astype(np.float32) if scaled else hu
    write_msd(tmp_path, grid.image(image), grid.image(label_map))
    make(settings(), tmp_path, tmp_path / "volume")
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == told
    assert all("c.nii.gz" in line and "volumes.window_hu" in line for line in warned)


def test_what_the_record_says_is_true_of_the_volume(tmp_path, upright):
    hu, label_map, grid = anatomy()
    write_msd(tmp_path, grid.image(hu), grid.image(label_map))
    volume = make(settings(), tmp_path, tmp_path / "volume")
    image, planes = whole(volume)
    record = volume.record
    assert record.labelled == ("kidney", "kidney_tumor")
    assert record.original == grid
    assert record.spacing_mm == SPACING
    assert set(record.voxels) == set(record.foreground) == {"kidney", "kidney_tumor"}
    for k, target in enumerate(TARGETS):
        mask = plane_mask(planes, k)
        assert mask.sum() == record.voxels.get(target, 0)
        assert all(mask[voxel] for voxel in record.foreground.get(target, ()))
    assert not (plane_mask(planes, 8) & ~plane_mask(planes, 2)).any()  # the tumour lies in its organ
    low, high = record.body
    outside = np.ones(record.shape, bool)
    outside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = False
    assert (image[outside] == -325).all()
    assert image.min() == -325
    parts = (np.ascontiguousarray(part) for part in (image, planes))
    assert record.content == "".join(hashlib.blake2b(part, digest_size=16).hexdigest() for part in parts)


def test_a_layout_of_ones_own_makes_the_same_volume(tmp_path, upright):
    hu, label_map, grid = anatomy()
    own = {"image": "scans/{case}.nrrd", "labels": "seg/{case}.mha"}
    for name, array in (("scans/c.nrrd", hu), ("seg/c.mha", label_map)):
        (tmp_path / name).parent.mkdir()
        sitk.WriteImage(grid.image(array), str(tmp_path / name), useCompression=True)
    for mine, stored in zip(whole(make(settings(own), tmp_path, tmp_path / "volume")), upright, strict=True):
        assert np.array_equal(mine, stored)


def test_masks_of_ones_own_layout_are_read_by_structure(tmp_path):
    hu, label_map, grid = anatomy()
    own = {"image": "{case}/ct.nii.gz", "labels": "{case}/masks/{structure}.nii.gz"}
    (tmp_path / "c" / "masks").mkdir(parents=True)
    sitk.WriteImage(grid.image(hu), str(tmp_path / "c" / "ct.nii.gz"))
    for name, mask in (("kidney", label_map > 0), ("kidney_tumor", label_map == 2)):
        sitk.WriteImage(grid.image(255 * mask.astype(np.uint8)), str(tmp_path / "c" / "masks" / f"{name}.nii.gz"))
    volume = make(settings(own, {}, ("kidney", "kidney_tumor")), tmp_path, tmp_path / "volume")
    write_msd(tmp_path, grid.image(hu), grid.image(label_map))
    by_values = make(settings(targets=("kidney", "kidney_tumor")), tmp_path, tmp_path / "other")
    assert volume.record.labelled == ("kidney", "kidney_tumor")
    assert np.array_equal(plane_mask(whole(volume)[1], 1), plane_mask(whole(by_values)[1], 1))
    assert (plane_mask(whole(volume)[1], 0) != plane_mask(whole(by_values)[1], 0)).mean() < 1e-3


def test_an_ordinary_header_leaves_no_trace_in_the_record_and_an_odd_one_is_kept_and_noted(tmp_path):
    hu, label_map, grid = anatomy()
    write_msd(tmp_path, grid.image(hu), grid.image(label_map))
    plain = make(settings(), tmp_path, tmp_path / "volume")
    assert not {"placement", "notes"} & set(json.loads((plain.folder / "case.json").read_text()))
    for folder in ("imagesTr", "labelsTr"):
        path = tmp_path / folder / "c.nii.gz"
        image = nibabel.load(path)
        moved = image.affine.copy()
        moved[0, 3] += 40
        image.set_qform(moved, 2)
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), path)
    odd = make(settings(), tmp_path, tmp_path / "odd")
    assert "sform and qform lie up to 40 mm apart" in odd.record.notes[0]
    assert (odd.record.placement.qform_code, odd.record.placement.sform_code) == (2, 1)
    assert odd.record.model_copy(update={"placement": None, "notes": ()}) == plain.record
    for mine, stored in zip(whole(odd), whole(plain), strict=True):
        assert np.array_equal(mine, stored)


CASES = ("c", "d", "e")


class Batch:
    """Three cases, equal but for their names, as they are acquired and made in one batch."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.volumes = folder / "raw", folder / "volumes"
        hu, label_map, grid = anatomy()
        for case in CASES:
            write_msd(self.raw, grid.image(hu), grid.image(label_map), case)
        (self.raw / "manifest.json").touch()

    def make(self, labelled: dict[str, tuple[str, ...]] | None = None) -> None:
        shared = settings().model_dump(exclude={"case", "labelled"})
        resample.run(
            ResampleSettings(**shared, labelled_by_case=labelled or {}),
            Execution(cases=CASES),
            resample.Inputs(self.raw / "manifest.json"),
            resample.Outputs(self.volumes / "batch_0000.txt"),
        )

    def made(self) -> dict[str, int]:
        """When each volume was written."""
        return {case: (self.volumes / case / "case.json").stat().st_mtime_ns for case in CASES}


@pytest.fixture
def batch(tmp_path) -> Batch:
    return Batch(tmp_path)


def changed(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [case for case in CASES if before[case] != after[case]]


def test_a_batch_that_runs_again_makes_only_what_is_missing_old_or_of_other_settings(batch):
    batch.make()
    first = batch.made()
    assert listed_cases(batch.volumes / "batch_0000.txt") == CASES
    (batch.volumes / "d" / "labels.b2nd").unlink()
    batch.make()
    second = batch.made()
    assert changed(first, second) == ["d"]
    (batch.raw / "labelsTr" / "e.nii.gz").touch()
    batch.make()
    third = batch.made()
    assert changed(second, third) == ["e"]
    batch.make({"c": ("kidney",)})
    fourth = batch.made()
    assert changed(third, fourth) == ["c"]
    (batch.raw / "imagesTr" / "d.nii.gz").unlink()
    batch.make({"c": ("kidney",)})
    assert changed(fourth, batch.made()) == []
    (batch.raw / "imagesTr" / "d.nii.gz").symlink_to(batch.raw / "imagesTr" / "c.nii.gz")
    (batch.raw / "manifest.json").touch()
    batch.make({"c": ("kidney",)})
    assert changed(fourth, batch.made()) == [*CASES]


def test_a_volume_that_is_half_written_is_not_taken_for_whole(batch, monkeypatch):
    """Its image is of other settings when the stage is killed; then the old settings come back."""
    batch.make()
    before = (batch.volumes / "c" / "image.b2nd").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline_lib.stages.resample.case.write_labels", killed)
        with pytest.raises(KeyboardInterrupt):
            resample_case(settings(spacing=(3, 3, 3)), batch.raw, batch.volumes / "c")
    assert why_incomplete(batch.volumes / "batch_0000.txt", CASES, batch.raw / "manifest.json")
    batch.make()
    assert (batch.volumes / "c" / "image.b2nd").read_bytes() == before


def test_the_list_differs_where_a_volume_does_and_only_there(batch):
    """Snakemake ignores a newer date of the same content."""
    path = batch.volumes / "batch_0000.txt"
    batch.make()
    first = path.read_text()
    (batch.raw / "manifest.json").touch()
    batch.make()
    assert path.read_text() == first, "the same raw cases, acquired again"
    hu, label_map, grid = anatomy()
    write_msd(batch.raw, grid.image((hu + 1).astype(np.int16)), grid.image(label_map), "d")
    batch.make()
    differing = [old != new for old, new in zip(first.splitlines(), path.read_text().splitlines(), strict=True)]
    assert differing == [case == "d" for case in CASES]


def test_a_case_with_a_fault_costs_the_batch_nothing_but_itself(batch):
    broken = [batch.raw / "labelsTr" / f"{case}.nii.gz" for case in ("c", "d")]
    whole = broken[0].read_bytes()
    for label in broken:
        label.write_bytes(whole[:-100])
    command = [sys.executable, "-m", "pipeline_lib.stages.resample.run"]
    command += ["--settings", ResampleSettings(**settings().model_dump(exclude={"case"})).model_dump_json()]
    command += ["--execution", Execution(cases=CASES).model_dump_json()]
    command += ["--manifest", batch.raw / "manifest.json", "--batch", batch.volumes / "batch_0000.txt"]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith(f"error: {broken[0]}: is cut off")
    assert f"another fault: {broken[1]}: is cut off" in failed.stderr
    assert not (batch.volumes / "batch_0000.txt").exists()
    names = ["below_window.b2nd", "case.json", "image.b2nd", "labels.b2nd"]
    assert sorted(path.name for path in (batch.volumes / "e").iterdir()) == names
    made_at = (batch.volumes / "e" / "case.json").stat().st_mtime_ns
    for label in broken:
        label.write_bytes(whole)
    subprocess.run(command, check=True, capture_output=True)
    assert batch.made()["e"] == made_at
    assert (batch.volumes / "batch_0000.txt").exists()


def test_cts_without_label_files_become_volumes_that_label_nothing(tmp_path, upright):
    hu, _, grid = anatomy()
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(grid.image(hu), str(tmp_path / "scans" / "c.nrrd"))
    plain = settings(Layout(image="scans/{case}.nrrd"), labels={}).model_copy(update={"labelled": ()})
    volume = make(plain, tmp_path, tmp_path / "volume")
    image, planes = whole(volume)
    assert np.array_equal(image, upright[0])
    assert planes.shape == upright[1].shape
    assert not planes.any()
    record = volume.record
    assert (record.labelled, record.voxels, record.foreground) == ((), {}, {})
    pool = pool_positions(record, Patches(size_voxels=(16, 16, 16), pool_size=200), seed=0)
    assert np.ptp(pool, axis=0).min() > 5, "anywhere in the body"


def test_the_stage_does_without_heavy_libraries():
    code = (
        "import sys, pipeline_lib.stages.resample.run; print(*{'torch', 'monai', 'pandas', 'scipy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_case_list_has_a_row_per_used_case_and_tells_unknown_from_absent(tmp_path):
    hu, label_map, grid = anatomy()
    folder = tmp_path / "volumes"
    for case in ("c_0", "c_1", "c_2"):
        empty = label_map * 0 if case == "c_1" else label_map
        write_msd(tmp_path, grid.image(hu), grid.image(empty), case)
        make(settings(case=case), tmp_path, folder / case)
    cases = folder / "cases.csv"
    arguments = (
        ListCasesSettings(train=("c_1", "c_2"), test=("c_0",), targets=TARGETS, volumes=Volumes(spacing_mm=SPACING)),
        case_list.Inputs(folder),
        case_list.Outputs(cases),
    )
    case_list.run(*arguments)
    with cases.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["case"], row["split"]) for row in rows] == [
        ("set", "c_0", "test"),
        ("set", "c_1", "train"),
        ("set", "c_2", "train"),
    ]
    assert [row["voxels_kidney"] != "0" for row in rows] == [True, False, True]
    assert {row["voxels_liver"] for row in rows} == {""}
    assert [float(rows[0][f"original_spacing_{axis}_mm"]) for axis in "xyz"] == [2, 2.5, 3]
    first = cases.read_text()
    write_msd(tmp_path, grid.image((hu + 1).astype(np.int16)), grid.image(label_map), "c_2")
    make(settings(case="c_2"), tmp_path, folder / "c_2")
    case_list.run(*arguments)
    assert cases.read_text() != first, "another image with the same counts of voxels"
    make(settings(case="c_2", spacing=(3, 3, 3)), tmp_path, folder / "c_2")
    with pytest.raises(UserError, match=r"c_2/case\.json: has another spacing than the config"):
        case_list.run(*arguments)
    (folder / "c_2" / "case.json").unlink()
    with pytest.raises(UserError, match=r"c_2/case\.json"):
        case_list.run(*arguments)


def test_a_prediction_splits_into_one_mask_per_roi(tmp_path):
    _, label_map, grid = anatomy()
    bits = (label_map > 0).astype(np.uint16) | (label_map == 2).astype(np.uint16) << 9
    names = tuple(f"roi_{k}" for k in range(10))
    write_roi_bits(tmp_path / "c.nii.gz", bits, grid, names)
    split_rois(tmp_path / "c.nii.gz", tmp_path / "masks")
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == sorted(f"{name}.nii.gz" for name in names)
    for k, name in enumerate(names):
        mask = sitk.ReadImage(str(tmp_path / "masks" / f"{name}.nii.gz"))
        assert Geometry.from_image(mask) == grid
        expected = {0: label_map > 0, 9: label_map == 2}.get(k, label_map > 9)
        assert np.array_equal(sitk.GetArrayFromImage(mask), expected)
    (tmp_path / "rois.json").unlink()
    command = [sys.executable, "-m", "pipeline_lib.tools.split_rois", tmp_path / "c.nii.gz", tmp_path / "again"]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"error: {tmp_path / 'rois.json'}: is missing")


REAL = [
    ("msd", "Task03_Liver", "liver_117", {"liver": (1, 2), "liver_tumor": (2,)}),
    ("msd", "Task06_Lung", "lung_901", {"lung_tumor": (1,)}),
    ("msd", "Task06_Lung", "lung_903", {"lung_tumor": (1,)}),
    ("totalsegmentator_v1", "Totalsegmentator_dataset", "s9001", {}),
]


class TestRealCases:
    pytestmark = needs_shared

    @pytest.mark.parametrize(("layout", "root", "case", "labels"), REAL, ids=lambda value: str(value)[:12])
    def test_labels_go_to_the_paper_s_spacing_and_back(self, tmp_path, layout, root, case, labels):
        targets = tuple(labels) or ("liver", "spleen", "kidney_left", "kidney_right", "aorta", "pancreas", "colon")
        chosen = settings(layout, labels, targets, case, root, spacing=(0.8, 0.8, 1.5))
        volume = make(chosen, SHARED, tmp_path / "volume")
        image, planes = whole(volume)
        assert image.min() == -325 < image.max() <= 325
        path = tmp_path / "back.nii.gz"
        bits = masks_on_original_grid((plane_mask(planes, k) for k in range(len(targets))), volume.record)
        write_roi_bits(path, bits, volume.record.original, targets)
        bits, grid = read_roi_bits(path)
        raw = read_case(layout, SHARED / root, case, targets, Labelling(labels=labels))
        assert grid == Geometry.from_image(raw.image)
        for k, target in enumerate(raw.labelled):
            mask = raw.labels.mask(target)
            back = roi_mask(bits, k)
            assert 2 * (back & mask).sum() / max(back.sum() + mask.sum(), 1) > 0.97 or not mask.any()

    @pytest.mark.parametrize("case", ["case_00004", "case_00134"])
    def test_kits19_lies_upright(self, tmp_path, case):
        label = SHARED / "kits19" / "data" / case / "segmentation.nii.gz"
        raw = tmp_path / "data" / case
        raw.mkdir(parents=True)
        (raw / "segmentation.nii.gz").symlink_to(label)
        original = sitk.ReadImage(str(label))
        hu = sitk.GetImageFromArray(np.where(sitk.GetArrayViewFromImage(original) > 0, 150, 0).astype(np.int16))
        hu.CopyInformation(original)
        sitk.WriteImage(hu, str(raw / "imaging.nii.gz"))
        chosen = settings("kits19", LABELS, ("kidney", "kidney_tumor"), case, spacing=(1.6, 1.6, 3.0))
        volume = make(chosen, tmp_path, tmp_path / "volume")
        _, planes = whole(volume)
        kidney = plane_mask(planes, 0)
        slices, _, columns = original.GetSize()
        assert volume.shape[0] == round(slices * original.GetSpacing()[0] / 3)
        assert volume.shape[2] == round(columns * original.GetSpacing()[2] / 1.6)
        _, y, x = np.nonzero(kidney)
        assert y.mean() > volume.shape[1] / 2  # the patient lies on the back: kidneys in the posterior half
        left, right = (x > volume.shape[2] / 2), (x < volume.shape[2] / 2)
        assert min(left.sum(), right.sum()) > 0.2 * len(x)


def test_unknown_voxels_stay_unknown_and_count_for_nothing(tmp_path):
    """On a grid that moves no voxel: value 9 leaves all ROIs open, value 7 only the tumour of a kidney."""
    hu, label_map, grid = anatomy()
    label_map[5:7, 9:12, 19:22] = 9
    label_map[10:12, 10:13, 22:25] = 7
    write_msd(tmp_path, grid.image(hu), grid.image(label_map))
    chosen = settings(labels={"kidney": (1, 2, 7), "kidney_tumor": (2,)}, spacing=grid.spacing_mm).model_copy(
        update={"unknown_labels": {9: "all", 7: ("kidney_tumor",)}}
    )
    volume = make(chosen, tmp_path, tmp_path / "volume")
    codes = volume.read_codes((0, 0, 0), volume.shape)
    labels, unknown = (np.moveaxis(table[codes], -1, 0) for table in (volume.combinations, volume.unknown))
    for target, values, open_values in (("kidney", (1, 2, 7), (9,)), ("kidney_tumor", (2,), (7, 9))):
        k = TARGETS.index(target)
        assert np.array_equal(plane_mask(labels, k), np.isin(label_map, values))
        assert np.array_equal(plane_mask(unknown, k), np.isin(label_map, open_values))
        assert volume.record.voxels[target] == np.isin(label_map, values).sum()
        assert volume.record.unknown[target] == np.isin(label_map, open_values).sum()
        assert not any(plane_mask(unknown, k)[voxel] for voxel in volume.record.foreground[target])
    assert not plane_mask(unknown, TARGETS.index("liver")).any(), "it is not labelled, so nothing of it is unknown"


def test_a_voxel_between_the_old_ones_is_unknown_where_the_unknown_voxels_decide_its_label(tmp_path):
    hu, label_map, grid = anatomy()
    label_map[6:9, 10:16, 18:22] = 9
    made = {}
    for name, value in (("open", 9), ("all", 1), ("none", 0)):
        raw = tmp_path / name
        write_msd(raw, grid.image(hu), grid.image(np.where(label_map == 9, value, label_map).astype(np.uint8)))
        chosen = settings(labels={"kidney": (1, 2)}).model_copy(update={"unknown_labels": {9: "all"}})
        made[name] = make(chosen.model_copy(update={"ignored_labels": ()}), raw, raw / "volume")
    kidney = TARGETS.index("kidney")
    volume = made["open"]
    unknown = plane_mask(np.moveaxis(volume.unknown[volume.read_codes((0, 0, 0), volume.shape)], -1, 0), kidney)
    least, most = (plane_mask(whole(made[name])[1], kidney) for name in ("none", "all"))
    assert np.array_equal(unknown, most & ~least)
    assert np.array_equal(plane_mask(whole(volume)[1], kidney), least)
    assert not len(made["all"].unknown), "a case in which the value does not occur has no unknown voxels"
    assert "unknown" not in json.loads((made["all"].folder / "case.json").read_text())


def test_a_volume_holds_only_what_its_case_labels(tmp_path):
    hu, label_map, grid = anatomy()
    write_msd(tmp_path, grid.image(hu), grid.image(label_map))
    volume = make(settings().model_copy(update={"labelled": ("kidney_tumor",)}), tmp_path, tmp_path / "volume")
    assert volume.record.labelled == ("kidney_tumor",)
    assert not plane_mask(whole(volume)[1], TARGETS.index("kidney")).any(), "what is withheld is not in the volume"
    assert plane_mask(whole(volume)[1], TARGETS.index("kidney_tumor")).any()
