"""The phantom's anatomy: where organs lie, how large they are, what varies and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from pipeline_lib.datasets.phantom.generate import generate_case

from .phantoms import PARTIAL, ROIS, phantom_settings


def centre(case, name):
    """Middle of a ROI or structure in LPS mm."""
    mask = case.roi_mask(name)
    assert mask.any(), name
    return np.array([axis[where].mean() for axis, where in zip(case.grid.axes, np.nonzero(mask)[::-1], strict=True)])


def millilitres(case, name):
    return case.roi_mask(name).sum() * np.prod(case.grid.spacing) / 1000


@pytest.fixture(scope="module")
def benchmark():
    """Two cases of each partially labelled data set and four fully labelled ones."""
    cases = {name: [phantom_settings(name, cases=2)] * 2 for name in PARTIAL}
    made = {
        name: [generate_case(settings, settings.dataset.all_cases[number]) for number, settings in enumerate(pair)]
        for name, pair in cases.items()
    }
    total = phantom_settings("phantom_total", cases=4, source={"phase": "portal_venous"})
    made["phantom_total"] = [generate_case(total, name) for name in total.dataset.all_cases]
    return made


@pytest.fixture(scope="module")
def trunk():
    """A whole trunk, fine enough for small organs."""
    for seed in range(20):
        settings = phantom_settings("phantom_total", seed=seed, spacing=(6.0, 6.0, 6.0), absent_organ=0)
        case = generate_case(settings, "s0000")
        if {"kidney_right", "lung_upper_lobe_left"} <= set(case.names):
            return case
    raise AssertionError("no seed gave a whole trunk")


def same(first, second):
    return (
        first.grid == second.grid
        and np.array_equal(first.hu, second.hu)
        and all(np.array_equal(first.roi_mask(roi), second.roi_mask(roi)) for roi in ROIS)
    )


def test_case_depends_on_its_key_alone():
    settings = phantom_settings("phantom_liver")
    first = generate_case(settings, "liver_001")
    generate_case(settings, "liver_000")
    assert same(first, generate_case(phantom_settings("phantom_liver", cases=9), "liver_001"))


@pytest.mark.parametrize(
    ("name", "seed", "case"), [("phantom_liver", 0, "liver_002"), ("phantom_liver", 1, "liver_001")]
)
def test_other_keys_give_other_cases(name, seed, case):
    usual = generate_case(phantom_settings("phantom_liver"), "liver_001")
    assert not same(usual, generate_case(phantom_settings(name, seed=seed), case))


def test_data_set_is_part_of_the_key():
    spleen = phantom_settings("phantom_spleen")
    renamed = spleen.model_copy(update={"dataset": spleen.dataset.model_copy(update={"name": "phantom_other"})})
    assert not same(generate_case(spleen, "spleen_000"), generate_case(renamed, "spleen_000"))


def test_every_roi_occurs_and_every_roi_is_absent_somewhere(benchmark):
    present = {roi: [case.roi_mask(roi).any() for cases in benchmark.values() for case in cases] for roi in ROIS}
    assert {roi for roi, cases in present.items() if not any(cases)} == set()
    always = {roi for roi, cases in present.items() if all(cases)}
    assert always <= {"liver", "hepatic_vessel", "spleen"}


def test_tumour_data_sets_hold_their_tumour_and_others_hold_some(benchmark):
    for name, cases in benchmark.items():
        labelled = phantom_settings(name).dataset.source.tumour
        assert labelled is None or any(case.roi_mask(labelled).any() for case in cases), name
    unlabelled = [
        roi
        for name, cases in benchmark.items()
        for roi in set(ROIS) - set(phantom_settings(name).dataset.labels)
        if ("tumor" in roi or "cancer" in roi) and any(case.roi_mask(roi).any() for case in cases)
    ]
    assert len(unlabelled) >= 3


@pytest.mark.parametrize("organ", ["liver", "kidney", "pancreas"])
def test_organ_includes_its_tumour(benchmark, organ):
    for cases in benchmark.values():
        for case in cases:
            assert not (case.roi_mask(f"{organ}_tumor") & ~case.roi_mask(organ)).any()


def test_tumours_along_vessels_are_liver_tumours_around_vessels():
    settings = phantom_settings("phantom_hepatic_vessel", spacing=(5.0, 5.0, 5.0))
    touching = 0
    for name in settings.dataset.all_cases:
        case = generate_case(settings, name)
        along, vessel = case.roi_mask("hepatic_vessel_tumor"), case.roi_mask("hepatic_vessel")
        assert not (along & ~case.roi_mask("liver_tumor")).any()
        assert not (along & vessel).any()
        assert not (vessel & ~case.roi_mask("liver")).any()
        touching += bool((binary_dilation(along) & vessel).any())
    assert touching >= 2


def test_other_liver_tumours_touch_no_vessel():
    settings = phantom_settings("phantom_liver", cases=4, spacing=(4.0, 4.0, 4.0))
    alone = 0
    for name in settings.dataset.all_cases:
        case = generate_case(settings, name)
        apart = case.roi_mask("liver_tumor") & ~case.roi_mask("hepatic_vessel_tumor")
        alone += bool(apart.any())
        assert not (binary_dilation(apart) & case.roi_mask("hepatic_vessel")).any()
    assert alone >= 2


def test_organs_lie_where_they_should(trunk):
    """LPS: x grows to the left, y to the back, z upwards."""
    place = {name: centre(trunk, name) for name in trunk.names[1:] if trunk.roi_mask(name).any()}
    left = {name: position[0] for name, position in place.items()}
    back = {name: position[1] for name, position in place.items()}
    height = {name: position[2] for name, position in place.items()}
    assert left["liver"] < left["pancreas"] < left["spleen"]
    assert left["kidney_right"] < left["inferior_vena_cava"] < left["aorta"] < left["kidney_left"]
    assert left["liver"] < left["heart_ventricle_left"]
    assert left["rib_right_8"] < left["vertebrae_L1"] < left["rib_left_8"]
    assert left["lung_lower_lobe_right"] < left["heart_myocardium"] < left["lung_lower_lobe_left"]
    assert back["stomach"] < back["spleen"] < back["autochthon_left"]
    assert back["pancreas"] < back["kidney_left"]
    assert back["inferior_vena_cava"] < back["vertebrae_L1"]
    assert height["kidney_right"] < height["kidney_left"] < height["spleen"] < height["lung_lower_lobe_left"]
    assert height["colon"] < height["liver"] < height["heart_myocardium"] < height["trachea"]
    assert height["lung_lower_lobe_right"] < height["lung_upper_lobe_right"]


@pytest.mark.parametrize(
    ("organ", "low", "high"),
    [
        ("liver", 800, 2400),
        ("kidney", 180, 560),
        ("spleen", 70, 480),
        ("pancreas", 30, 170),
        ("hepatic_vessel", 20, 120),
    ],
)
def test_organs_have_adult_sizes(trunk, organ, low, high):
    assert low < millilitres(trunk, organ) < high


def test_hu_of_tissues_in_the_portal_venous_phase(benchmark):
    case = next(case for case in benchmark["phantom_spleen"] if case.roi_mask("spleen").any())
    inner = {name: case.hu[~binary_dilation(~case.roi_mask(name))] for name in ("liver", "spleen", "kidney")}
    assert 85 < np.median(inner["liver"]) < 140
    assert 95 < np.median(inner["spleen"]) < 155
    assert np.median(inner["kidney"]) > np.median(inner["spleen"]) + 20
    assert np.percentile(case.hu, 1) < -950


def test_tumours_are_darker_than_their_organ():
    settings = phantom_settings("phantom_liver", cases=4, spacing=(5.0, 5.0, 5.0), noise_hu=0)
    seen = 0
    for name in settings.dataset.all_cases:
        case = generate_case(settings, name)
        tumour = case.roi_mask("liver_tumor")
        if tumour.sum() > 20:
            seen += 1
            healthy = case.roi_mask("liver") & ~binary_dilation(tumour, iterations=2)
            assert np.median(case.hu[tumour]) < np.median(case.hu[healthy]) - 15
    assert seen >= 2


@pytest.mark.parametrize(
    ("region", "shown", "hidden"),
    [
        ("chest", ("lung_upper_lobe_left", "heart_myocardium"), ("colon", "vertebrae_L3")),
        ("upper_abdomen", ("liver", "kidney", "spleen"), ("lung_upper_lobe_right", "hip_left")),
        ("abdomen", ("liver", "kidney", "colon", "hip_left"), ("clavicula_left", "vertebrae_T4")),
    ],
)
def test_field_of_view_decides_what_is_there(region, shown, hidden):
    settings = phantom_settings("phantom_spleen", source={"region": region}, absent_organ=0)
    for name in settings.dataset.all_cases:
        case = generate_case(settings, name)
        assert all(case.roi_mask(roi).any() for roi in shown)
        assert not any(case.roi_mask(roi).any() for roi in hidden)


def test_lost_organs():
    """With certainty of loss one kidney stays, and a data set keeps the organs that it labels."""
    lost = generate_case(phantom_settings("phantom_liver", absent_organ=1), "liver_000")
    assert not lost.roi_mask("spleen").any()
    assert lost.roi_mask("kidney_left").any() != lost.roi_mask("kidney_right").any()
    kept = generate_case(phantom_settings("phantom_kits", absent_organ=1), "case_00000")
    assert kept.roi_mask("kidney_left").any() and kept.roi_mask("kidney_right").any()


def test_body_scale_shrinks_organs_with_the_body():
    usual, half = (
        generate_case(
            phantom_settings("phantom_spleen", spacing=(size, size, size), body_scale=scale, deformation=0),
            "spleen_001",
        )
        for scale, size in ((1.0, 6.0), (0.5, 3.0))
    )
    for organ in ("liver", "kidney"):
        assert millilitres(half, organ) == pytest.approx(millilitres(usual, organ) / 8, rel=0.06)


def test_finer_voxels_show_the_same_patient():
    coarse, fine = (
        generate_case(phantom_settings("phantom_spleen", spacing=(size, size, size)), "spleen_000")
        for size in (8.0, 4.0)
    )
    assert np.prod(fine.hu.shape) > 5 * np.prod(coarse.hu.shape)
    for organ in ("liver", "spleen", "kidney"):
        assert millilitres(fine, organ) == pytest.approx(millilitres(coarse, organ), rel=0.1)


def test_difficulty_settings_do_what_they_say():
    def flat_part(**phantom):
        case = generate_case(phantom_settings("phantom_spleen", **phantom), "spleen_001")
        return case.hu[~binary_dilation(~case.roi_mask("liver"))]

    usual, noisy, strong = flat_part(noise_hu=5), flat_part(noise_hu=60), flat_part(noise_hu=5, contrast=2)
    assert noisy.std() > 2 * usual.std()
    assert np.median(strong) - 58 == pytest.approx(2 * (np.median(usual) - 58), abs=8)
    small, large = (
        generate_case(phantom_settings("phantom_liver", tumour_size=size), "liver_001").roi_mask("liver_tumor").sum()
        for size in (0.5, 1.2)
    )
    assert small < large


def test_without_deformation_all_patients_are_built_alike():
    cases = [
        generate_case(phantom_settings("phantom_spleen", deformation=0, absent_organ=0), f"spleen_00{number}")
        for number in range(3)
    ]
    volumes = [millilitres(case, "kidney") for case in cases]
    assert max(volumes) / min(volumes) < 1.06
