"""What has a side is paired, or refused while images are flipped along x."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.rois import Roi
from pipeline_lib.config.sides import other_side, partner_indices, roi_partners, structure_mirrors
from pipeline_lib.config.structures import structure_names
from pipeline_lib.errors import UserError
from pipeline_lib.stages.check_existence.settings import settings_from as check_existence
from pipeline_lib.stages.train.settings import settings_from as train
from pipeline_lib.stages.train_roi_aware.settings import settings_from as train_roi_aware

BASE = Path(__file__).parents[2]
FLIPS, STILL = [0.5, 0, 0], [0, 0.5, 0.5]
REMEDY = "set the first entry of `augmentation.weak.flip_probability` to 0 and `inference.flip_tta` to false"
STRUCTURES = {"kidney_left": ["kidney_left"], "kidney_right": ["kidney_right"]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kidney_left", "kidney_right"),
        ("rib_left_7", "rib_right_7"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"),
        ("left", "right"),
        ("LEFT_lung", "RIGHT_lung"),
        ("leftKidney", "rightKidney"),
        ("KidneyLeft", "KidneyRight"),
        ("Kidney_Left2", "Kidney_Right2"),
        ("kidney_L", "kidney_R"),
        ("l_kidney", "r_kidney"),
        ("vein_left_to_right", "vein_right_to_left"),
    ],
)
def test_names_with_a_side_have_another_one(one, other):
    assert other_side(one) == other
    assert other_side(other) == one


@pytest.mark.parametrize(
    "name", ["kidney", "vertebrae_L5", "L5", "vertebra_L_5", "cleft", "bright_spot", "leftover", "liver", "colon", "R2"]
)
def test_names_without_a_side_have_no_other_one(name):
    assert other_side(name) is None


@pytest.mark.parametrize(
    ("version", "sided", "alone"),
    [
        # Counted in TotalSegmentator's lists: 24 ribs; kidney, adrenal gland, two lobes, iliac
        # artery and vein, humerus, scapula, clavicle, femur, hip, three gluteal muscles, autochthon, iliopsoas. v2 has
        # kidney cyst, subclavian and carotid artery more. Heart chambers, brachiocephalic veins: no mirror images.
        ("totalsegmentator_v1", 24 + 2 * 16 + 1, {"lung_middle_lobe_right"}),
        ("totalsegmentator_v2", 24 + 2 * 19 + 1, {"lung_middle_lobe_right"}),
    ],
)
def test_totalsegmentators_structures_are_paired(version, sided, alone):
    names = structure_names(version)
    mirrors = structure_mirrors(names)
    assert len(mirrors) == sided
    assert {name for name, other in mirrors.items() if other is None} == alone
    assert all(mirrors[other] == name for name, other in mirrors.items() if other is not None)
    partners = partner_indices(names, mirrors)
    assert partners[names.index("rib_left_3")] == names.index("rib_right_3")
    assert partners[names.index("lung_middle_lobe_right")] is None
    assert partners[names.index("liver")] == names.index("liver")
    for name in names:
        if name.startswith(("heart", "atrial", "brachiocephalic")):
            assert partners[names.index(name)] == names.index(name)


def config_with(rois: dict[str, dict], flips=FLIPS, flip_tta=False) -> dict:
    """The default config with further ROIs, which one of its data sets labels."""
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text())
    content["rois"] += [{"name": name, "text": name, **keys} for name, keys in rois.items()]
    spleen = yaml.safe_load((BASE / "config" / "datasets" / "phantom_spleen.yaml").read_text())
    spleen["labels"] |= {name: [20 + number] for number, name in enumerate(rois)}
    content["datasets"]["partially_labelled"][-1] = spleen
    content["augmentation"] = {"weak": {"flip_probability": flips}}
    content["inference"] = {**content.get("inference", {}), "flip_tta": flip_tta}
    return content


def kidneys(left: dict | None = None, right: dict | None = None) -> dict[str, dict]:
    return {
        "kidney_left": {"structures": ["kidney_left"], **(left or {})},
        "kidney_right": {"structures": ["kidney_right"], **(right or {})},
    }


def refusal(content: dict) -> str:
    with pytest.raises(UserError) as caught:
        load_config(content, BASE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("flips", "flip_tta"), [(FLIPS, False), (STILL, True)])
def test_kidneys_that_declare_nothing_are_refused_while_x_is_flipped(flips, flip_tta):
    message = refusal(config_with(kidneys(), flips, flip_tta))
    assert "ROIs kidney_left (its name), kidney_right (its name) have a side" in message
    assert "declare `mirror: kidney_right` for kidney_left" in message
    assert REMEDY in message
    assert load_config(config_with(kidneys(), STILL), BASE)


@pytest.mark.parametrize(
    ("name", "keys", "why"),
    [
        ("left_kidney", {"organ": "kidney"}, "its name"),
        ("kidney_l", {"organ": "kidney"}, "its name"),
        ("stone", {"structures": ["kidney_left"]}, "its structure kidney_left"),
        ("stone", {"structures": ["liver", "kidney_right"]}, "its structure kidney_right"),
        ("stone", {"structures": ["kidney_left", "lung_upper_lobe_right"]}, "its structure kidney_left"),
        ("lobe", {"structures": ["lung_middle_lobe_right"]}, "its structure lung_middle_lobe_right"),
        ("stone", {"structures": ["kidney_left", "kidney_right"]}, None),
        ("stone", {"organ": "kidney"}, None),
    ],
)
def test_a_roi_of_one_side_alone_is_refused_while_x_is_flipped(name, keys, why):
    content = config_with({name: keys})
    content["roi_aware"]["structures"] = "totalsegmentator_v1"
    if why is None:
        assert load_config(content, BASE)
        return
    assert f"ROI {name} ({why}) has a side: flips along x" in refusal(content)
    declared = copy.deepcopy(content)
    declared["rois"][-1]["mirror"] = name
    assert roi_partners(load_config(declared, BASE).rois) == {}, "its own name says that it has no side"
    content["augmentation"]["weak"]["flip_probability"] = STILL
    assert load_config(content, BASE)


def test_a_tumour_has_the_side_of_its_organ():
    content = config_with(
        {**kidneys({"mirror": "kidney_right"}), "cyst_a": {"organ": "kidney_left"}, "cyst_b": {"organ": "kidney_right"}}
    )
    assert "ROIs cyst_a (its structure kidney_left), cyst_b (its structure kidney_right) have a side" in refusal(
        content
    )
    content["rois"][-2]["mirror"] = "cyst_b"
    assert load_config(content, BASE)


@pytest.mark.parametrize(
    "declared",
    [({"mirror": "kidney_right"}, {}), ({}, {"mirror": "kidney_left"}), tuple({"mirror": n} for n in STRUCTURES)[::-1]],
)
def test_one_declaration_is_enough(declared):
    config = load_config(config_with(kidneys(*declared)), BASE)
    both = {"kidney_left": "kidney_right", "kidney_right": "kidney_left"}
    assert roi_partners(config.rois) == both
    assert train(config, "baseline-seed0").mirrors == check_existence(config).mirrors == both
    names = config.roi_names
    swapped = [*range(len(names) - 2), len(names) - 1, len(names) - 2]
    assert partner_indices(names, both) == tuple(swapped)


@pytest.mark.parametrize(
    ("rois", "expected"),
    [
        (kidneys({"mirror": "kidney_lef"}), "ROI kidney_left: `mirror` names kidney_lef, and `rois` has: liver,"),
        (
            kidneys({"mirror": "kidney_right"}, {"mirror": "spleen"}),
            "ROI kidney_right: by the declarations of `mirror` it becomes both kidney_left and spleen",
        ),
        (
            {**kidneys({"mirror": "kidney_right"}), "stone": {"organ": "spleen", "mirror": "kidney_right"}},
            "ROI kidney_right: by the declarations of `mirror` it becomes both kidney_left and stone",
        ),
        (
            kidneys({"mirror": "kidney_right"}, {"mirror": "kidney_right"}),
            "ROI kidney_right: by the declarations of `mirror` it becomes both kidney_left and kidney_right",
        ),
        (
            {**kidneys({"mirror": "stone"}), "stone": {"structures": ["kidney_right"]}},
            "ROI kidney_left: `mirror` names stone, but by their names kidney_right is its other side",
        ),
        (
            kidneys({"mirror": "kidney_right"}, {"structures": ["kidney_left"]}),
            "their structures (kidney_left; kidney_left) are not mirror images of each other",
        ),
        (
            {"a": {"structures": ["kidney_left"], "mirror": "b"}, "b": {"structures": ["spleen"]}},
            "their structures (kidney_left; spleen) are not mirror images of each other",
        ),
    ],
)
@pytest.mark.parametrize("flips", [FLIPS, STILL])
def test_contradictions_are_refused_whatever_is_flipped(rois, expected, flips):
    assert expected in refusal(config_with(rois, flips))


def test_a_lobe_that_one_lung_lacks_is_no_contradiction():
    lobes = ["lung_upper_lobe", "lung_lower_lobe"]
    lungs = {
        "lung_left": {"structures": [f"{lobe}_left" for lobe in lobes], "mirror": "lung_right"},
        "lung_right": {"structures": [f"{lobe}_right" for lobe in (*lobes, "lung_middle_lobe")]},
    }
    content = config_with(lungs)
    content["roi_aware"]["structures"] = "totalsegmentator_v1"
    assert load_config(content, BASE)


def test_the_roi_aware_network_depends_on_its_pairs_where_patches_are_flipped():
    """So that models of trainings without such flips are kept."""
    flipped, still = (load_config(config_with({}, flips), BASE) for flips in (FLIPS, STILL))
    names = structure_names(flipped.roi_aware.structures)
    assert train_roi_aware(flipped).mirrors == structure_mirrors(names) != {}
    assert train_roi_aware(still).mirrors == {}


def test_rois_without_sides_leave_a_training_as_it_was():
    rois = (Roi(name="liver", text="liver", structures=("liver",)),)
    assert roi_partners(rois) == {}
    assert partner_indices(("liver",), {}) == ()


def test_the_papers_experiment_has_no_roi_with_a_side():
    config = load_config(BASE / "config" / "mots.yaml", BASE)
    assert config.augmentation.weak.flip_probability[0] == 0.5
    assert train(config, "latent_class-seed0").mirrors == {}
