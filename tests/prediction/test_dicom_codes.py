"""SNOMED codes of ROIs, compared with the dictionary of another library."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pydicom.sr import _concepts_dict

from pipeline_lib.config.structures import structure_names
from pipeline_lib.prediction.dicom import codes
from pipeline_lib.prediction.dicom.codes import PRIVATE, coded

TABLE = Path(codes.__file__).with_name("snomed.csv")


@pytest.mark.parametrize(
    ("roi", "category", "kind", "side", "region"),
    [
        ("liver", "Anatomical Structure", "10200004", None, None),
        ("kidney_left", "Anatomical Structure", "64033007", "Left", None),
        ("Lt Parotid", "Anatomical Structure", "45289007", "Left", None),
        ("rib_right_10", "Anatomical Structure", "77644006", "Right", None),
        # The side is part of the concept.
        ("heart_atrium_left", "Anatomical Structure", "82471001", None, None),
        ("hepatic_vessel", "Anatomical Structure", "59820001", None, "Liver"),
        ("liver_tumor", "Morphologically Abnormal Structure", "108369006", None, "Liver"),
        ("hepatic_vessel_tumor", "Morphologically Abnormal Structure", "108369006", None, "Liver"),
        ("right_lung_nodules", "Morphologically Abnormal Structure", "27925004", "Right", "Lung"),
        ("unheard_of_tumor", "Morphologically Abnormal Structure", "108369006", None, None),
    ],
)
def test_a_known_name_has_a_category_a_type_a_side_and_a_region(roi, category, kind, side, region):
    found = coded(roi)
    assert (found.category.meaning, found.type.value, found.type.scheme) == (category, kind, "SCT")
    assert (found.side and found.side.meaning) == side
    assert (found.region and found.region.meaning) == region


def test_an_unknown_name_is_a_code_of_our_own():
    found = coded("flux_capacitor_left")
    assert (found.type.value, found.type.scheme, found.side) == ("flux_capacitor_left", PRIVATE, None)


@pytest.mark.parametrize("version", ["totalsegmentator_v1", "totalsegmentator_v2"])
def test_every_class_of_totalsegmentator_is_known(version):
    assert [name for name in structure_names(version) if coded(name).type.scheme == PRIVATE] == []


def test_codes_mean_what_pydicom_says_they_mean():
    """pydicom has the concepts of DICOM's context groups: most of the table's."""
    meanings = {
        code: meaning for known in _concepts_dict.concepts["SCT"].values() for code, (meaning, _) in known.items()
    }
    # Where it says something else.
    other_words = {"Blood vessel": "Endo-vascular"}
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    compared = 0
    for row in rows:
        if row["code"] in meanings:
            compared += 1
            said = meanings[row["code"]].lower()
            words = [word[:4] for word in row["meaning"].lower().split()]
            assert any(word in said for word in words) or other_words.get(row["meaning"]) == meanings[row["code"]], row
    assert compared > 100


def test_no_name_is_there_twice():
    with TABLE.open(encoding="utf-8", newline="") as file:
        names = [name for row in csv.DictReader(file) for name in row["names"].split()]
    assert len(names) == len(set(names))
