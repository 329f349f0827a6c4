"""Names of structures match whatever their case, blanks, underscores and hyphens."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline_lib.config.label_names import bare, match_names, owners

PAROTID = {"parotid_left": (("Parotid_L", "Lt Parotid", "parotide gauche"),)}
letters = st.text("abAB _-", min_size=1, max_size=6)


@pytest.mark.parametrize("name", ["Parotid_L", "parotid l", "PAROTIDL", "Parotid-L", " lt_parotid", "Parotide  Gauche"])
def test_a_name_matches_its_synonyms(name):
    matched = match_names(["Bolus", name], PAROTID)
    assert (matched.found, matched.incomplete, matched.unmatched) == ({"parotid_left": (name,)}, {}, ("Bolus",))


@pytest.mark.parametrize("name", ["Parotid_R", "Parotid_L1", "Parotid.L", "Parotid"])
def test_other_names_do_not(name):
    assert match_names([name], PAROTID).unmatched == (name,)


def test_accents_match_however_they_are_encoded():
    assert bare("Œsophage dévié") == bare("œsophage_de\u0301vie\u0301")


def naive_match(found, wanted):
    """Compare every name with every other, letter by letter."""

    def letters_of(name):
        return [letter.lower() for letter in name if letter not in " _-"]

    return {
        roi: tuple(name for part in parts for name in found if any(letters_of(name) == letters_of(n) for n in part))
        for roi, parts in wanted.items()
    }


@given(
    st.lists(letters, max_size=4), st.dictionaries(st.sampled_from("xyz"), st.lists(letters, max_size=2), max_size=3)
)
def test_matching_equals_a_comparison_of_every_pair(found, names):
    wanted = {roi: (tuple(of_roi),) for roi, of_roi in names.items()}
    spellings = [bare(name) for of_roi in names.values() for name in {bare(name) for name in of_roi}]
    assume(len(set(spellings)) == len(spellings))
    expected = naive_match(found, wanted)
    if any(len(of_roi) > 1 for of_roi in expected.values()):
        with pytest.raises(ValueError, match="has both"):
            match_names(found, wanted)
        return
    matched = match_names(found, wanted)
    assert matched.found == {roi: of_roi for roi, of_roi in expected.items() if of_roi}
    assert set(matched.unmatched) == set(found) - {name for of_roi in expected.values() for name in of_roi}


def test_a_roi_of_several_parts_needs_all_of_them():
    wanted = {"parotids": (("Parotid_L",), ("Parotid_R", "Rt Parotid"))}
    both = match_names(["rt parotid", "PAROTID L"], wanted)
    assert both.found == {"parotids": ("PAROTID L", "rt parotid")}
    one = match_names(["rt parotid"], wanted)
    assert (one.found, one.incomplete) == ({}, {"parotids": ("rt parotid",)})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"a": (("Cord",),), "b": (("CORD ",),)}, "'CORD ' belongs to a and b"),
        ({"a": (("Cord",), ("cord",))}, "'cord' belongs to two parts of a"),
    ],
)
def test_a_name_that_is_given_twice_is_refused(wanted, said):
    with pytest.raises(ValueError, match=said):
        owners(wanted)
