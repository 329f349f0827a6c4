"""What the summary says of a difference table."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from pipeline_lib.reporting.findings import findings
from pipeline_lib.reporting.intervals import ONE_TRAINING, TOO_FEW_CASES

TABLE = pd.DataFrame(
    {"source": ["measured"] * 3, "method": ["a", "b", "c"], "convention": ["nnunet"] * 3, "average": [50.0, 53.0, 40.0]}
)


def pair(second: str, gains: dict[str, float], p: float, first: str = "a", note: str = "") -> list[dict[str, object]]:
    """Rows of one pair, all with the same p; the average over ROIs has an interval even where the ROIs have none."""
    rows = [
        {"roi": roi, "cases": 5, "difference": gain, "p": p, "p_holm": p, "note": note} for roi, gain in gains.items()
    ]
    average_p, average_note = (0.4, "") if note == TOO_FEW_CASES else (p, note)
    rows.append({"roi": "average", "cases": 15, "difference": 0.03, "p": average_p, "note": average_note})
    return [{"first": first, "second": second, "low": 0.01, "high": 0.05, "p_holm": math.nan} | row for row in rows]


@pytest.mark.parametrize(
    ("p", "note", "said"),
    [
        (math.nan, TOO_FEW_CASES, "too few cases (5 at most) to test single ROIs"),
        (0.4, "", "no ROI significantly better or worse"),
    ],
)
def test_where_no_roi_differs_it_tells_whether_one_was_tested(p, note, said):
    rows = pair("b", {"liver": 0.1, "spleen": -0.1}, p, note=note)
    assert findings(TABLE, pd.DataFrame(rows), ["a", "b"])[1] == (
        f"b against a: +3.0 percentage points on average (95 % interval +1.0 to +5.0, p = 0.400); {said}."
    )


def test_single_trainings_make_no_method_better_or_worse():
    rows = pair("b", {"liver": 0.3, "spleen": -0.3}, math.nan, note=ONE_TRAINING)
    sentence = findings(TABLE, pd.DataFrame(rows), ["a", "b"])[1]
    assert sentence == (
        "b against a: +3.0 percentage points on average (95 % interval +1.0 to +5.0 over cases alone); "
        "one training each, which cannot tell a better or worse method from chance."
    )


def test_a_method_alone_is_not_called_the_best():
    assert findings(TABLE[:1], pd.DataFrame(), ["a"]) == ["a has an average Dice of 50.0 %."]


def test_the_best_is_named_and_every_method_is_compared_with_the_first():
    rows = pair("b", {"liver": 0.1, "spleen": -0.1}, p=0.0001)
    rows += pair("c", {"liver": -0.1, "spleen": -0.2}, p=0.01) + pair("c", {"liver": -0.2}, 0.01, first="b")
    best, *others = findings(TABLE, pd.DataFrame(rows), ["a", "b", "c"])
    assert best == "b has the highest average Dice: 53.0 %."
    assert [sentence.split(":")[0] for sentence in others] == ["b against a", "c against a"]
    assert others[0].endswith("p < 0.001); better on liver; worse on spleen.")
    assert "−10.0 percentage points on average (+3.0 over the ROIs that both have a score for, " in others[1]
    assert others[1].endswith("; worse on liver, spleen.")
