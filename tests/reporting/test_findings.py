"""What the summary says of a difference table."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from pipeline_lib.reporting.findings import findings

TABLE = pd.DataFrame(
    {"source": ["measured"] * 3, "method": ["a", "b", "c"], "convention": ["nnunet"] * 3, "average": [50.0, 53.0, 40.0]}
)


def pair(second: str, cases: int, gains: dict[str, float], p: float, first: str = "a") -> list[dict[str, object]]:
    """Rows of one pair, all with the same p; the average over ROIs has three times the cases of a ROI."""
    rows = [{"roi": roi, "cases": cases, "difference": gain, "p_holm": p} for roi, gain in gains.items()]
    rows.append({"roi": "average", "cases": 3 * cases, "difference": 0.03, "p_holm": math.nan})
    return [{"first": first, "second": second, "low": 0.01, "high": 0.05, "p_wilcoxon": p} | row for row in rows]


@pytest.mark.parametrize(
    ("cases", "said"),
    [(5, "too few cases (5 at most) to test single ROIs"), (7, "no ROI for sure better or worse")],
)
def test_where_no_roi_differs_it_tells_whether_one_could_have(cases, said):
    """Two ROIs: the least p of 5 cases is 1/16, of 7 it is 1/64, and Holm doubles it. The average is no third test."""
    rows = pair("b", cases, {"liver": 0.1, "spleen": -0.1}, p=0.4)
    assert findings(TABLE, pd.DataFrame(rows), ["a", "b"])[1] == (
        f"b against a: +3.0 percentage points on average (95 % interval +1.0 to +5.0, p = 0.400); {said}."
    )


def test_the_best_is_named_and_every_method_is_held_against_the_first():
    rows = pair("b", 30, {"liver": 0.1, "spleen": -0.1}, p=0.0001)
    rows += pair("c", 30, {"liver": -0.1, "spleen": -0.2}, p=0.01) + pair("c", 30, {"liver": -0.2}, 0.01, first="b")
    best, *others = findings(TABLE, pd.DataFrame(rows), ["a", "b", "c"])
    assert best == "b has the highest average Dice: 53.0 %."
    assert [sentence.split(":")[0] for sentence in others] == ["b against a", "c against a"]
    assert others[0].endswith("p < 0.001); better on liver; worse on spleen.")
    assert "−10.0 percentage points on average (+3.0 over the cases that both have a score for, " in others[1]
    assert others[1].endswith("; worse on liver, spleen.")
