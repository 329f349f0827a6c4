"""What figures draw, where a look at them would not tell that it is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.existence import DecisionRule
from pipeline_lib.config.methods import Method
from pipeline_lib.existence.agreement import DECISIONS
from pipeline_lib.geometry import Geometry
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.mean_teacher.settings import MeanTeacher
from pipeline_lib.reporting.confusion import confusion_figure, read_confusion
from pipeline_lib.reporting.existence_check import ExistenceCheck, existence_check_figure
from pipeline_lib.reporting.false_voxels import false_voxel_figure, false_voxel_table
from pipeline_lib.reporting.figures import FIGURES
from pipeline_lib.reporting.intervals import Summary
from pipeline_lib.reporting.label_curve import (
    LabelCurve,
    cases_for,
    label_curve_figure,
    label_curves,
    overall_label_curves,
)
from pipeline_lib.reporting.overview import choose_median_cases, overview_panel
from pipeline_lib.reporting.panels import draw_marks
from pipeline_lib.reporting.pseudo_labels import over_decisions, pseudo_label_figure, read_pseudo_labels
from pipeline_lib.reporting.results import Results, method_label
from pipeline_lib.reporting.scans import CaseFiles, Scan
from pipeline_lib.reporting.style import method_colours, method_markers, roi_colours
from pipeline_lib.reporting.training_figures import common_thresholds, existence_figure
from pipeline_lib.reporting.validation_figure import validated, validation_figure
from pipeline_lib.reporting.windows import window_of
from pipeline_lib.stages.write_report.run import read_evidence

SPLEENS = Dataset.model_validate(
    {
        "name": "spleens",
        "layout": "msd",
        "source": {"kind": "phantom", "cases": 30, "spacing_mm": (5, 5, 5)},
        "labels": {"spleen": (1,)},
        "licence": "CC0-1.0",
    }
)
MANY = 22
LABELLED = {"spleens": MANY, "livers": MANY, "third": MANY}


SHARED = {"network": "some", "encoder": "words"}


def labels_alone(**keys: object) -> LabelsAlone:
    return LabelsAlone(kind="labels_alone", **SHARED, **keys)


CURVED = {
    "other": MeanTeacher(kind="mean_teacher", **SHARED),
    "all": labels_alone(),
    "some_seed": labels_alone(labelled_cases={"livers": 3}),
    "eight": labels_alone(labelled_cases={"spleens": 8}),
    "two": labels_alone(labelled_cases={"spleens": 2}),
}


def results_of(dice: dict[str, list[list[float]]]) -> Results:
    """Dice of the spleen, a list of cases for each training of each method."""
    rows = [
        {"run": f"{name}-seed{seed}", "method": name, "seed": seed, "dataset": "spleens", "case": str(case)}
        | {"roi": "spleen", "dice": value}
        for name, trainings in dice.items()
        for seed, cases in enumerate(trainings)
        for case, value in enumerate(cases)
    ]
    return Results(pd.DataFrame(rows), ("spleen",), tuple(dice))


def test_a_label_curve_joins_methods_that_differ_in_the_number_of_cases_alone():
    dice = {name: [[0.1, 0.3], [0.5, 0.7]] for name in CURVED} | {"two": [[0.0, 0.2], [0.2, 0.4]]}
    (curve,) = label_curves(SPLEENS, CURVED, results_of(dice), LABELLED)
    assert (curve.name, curve.roi, curve.counts) == ("all", "spleen", (2, 8, MANY))
    assert [each.mean for each in curve.dice] == pytest.approx([0.2, 0.4, 0.4])
    assert np.array(curve.trainings) == pytest.approx(np.array([[0.1, 0.3], [0.2, 0.6], [0.2, 0.6]]))


def test_a_method_that_learns_from_an_unknown_number_of_cases_has_no_point():
    (curve,) = label_curves(SPLEENS, CURVED, results_of({name: [[0.9]] for name in CURVED}), {})
    assert (curve.name, curve.counts) == ("eight", (2, 8))


def test_a_curve_has_the_colour_of_its_method_and_all_of_it_is_seen():
    """One test case: there is no interval that would tell how high the curve goes."""
    results = results_of({name: [[0.9], [0.4]] for name in CURVED})
    curves = label_curves(SPLEENS, CURVED, results, LABELLED)
    assert math.isnan(curves[0].dice[0].high)
    (axes,) = label_curve_figure(curves, "labelled cases", results.methods).axes
    (line,) = axes.get_lines()
    assert to_hex(line.get_color()) == method_colours(results.methods)["all"].lower()
    assert axes.get_ylim()[1] > 0.9


LIVERS = SPLEENS.model_copy(update={"name": "livers", "labels": {"liver": (1,)}})
BOTH = (SPLEENS, LIVERS)


def both(cases: int) -> dict[str, int]:
    return {"spleens": cases, "livers": cases}


def test_the_curve_of_the_average_counts_the_cases_of_all_data_sets_that_vary():
    methods = {
        "all": labels_alone(),
        "two": labels_alone(labelled_cases=both(2)),
        "uneven": labels_alone(labelled_cases={"spleens": 8}),
        "teacher_8": MeanTeacher(kind="mean_teacher", **SHARED, labelled_cases=both(8)),
        "teacher_2": MeanTeacher(kind="mean_teacher", **SHARED, labelled_cases=both(2)),
    }
    dice = {name: [[0.1 * place, 0.1 * place + 0.2]] for place, name in enumerate(methods, 1)}
    alone, teacher = overall_label_curves(BOTH, methods, results_of(dice), LABELLED)
    assert (alone.name, alone.roi, alone.counts) == ("all", "average", (4, 8 + MANY, 2 * MANY))
    assert [each.mean for each in alone.dice] == pytest.approx([0.3, 0.4, 0.2])
    assert (teacher.name, teacher.counts) == ("teacher_8", (4, 16))
    folded, point = overall_label_curves(BOTH, methods, results_of(dice), {})
    assert (folded.name, folded.counts) == (teacher.name, teacher.counts)
    assert (point.name, point.counts) == ("two", (4,))


@pytest.mark.parametrize("labelled", [LABELLED, {}], ids=["counted", "in folds"])
def test_a_curve_counts_only_the_data_sets_in_which_its_own_methods_differ(labelled):
    """All are limited in a third data set alike, or another method in it alone."""
    third = SPLEENS.model_copy(update={"name": "third"})
    alike = {f"with_{n}": labels_alone(labelled_cases=both(n) | {"third": 3}) for n in (2, 4)}
    (curve,) = overall_label_curves((*BOTH, third), alike, results_of({name: [[0.5]] for name in alike}), labelled)
    assert curve.counts == (4, 8)
    apart = {f"with_{n}": labels_alone(labelled_cases=both(n)) for n in (2, 4)}
    apart["other"] = MeanTeacher(kind="mean_teacher", **SHARED, labelled_cases={"third": 3})
    (curve,) = overall_label_curves((*BOTH, third), apart, results_of({name: [[0.5]] for name in apart}), labelled)
    assert curve.counts == (4, 8)


def test_curves_of_other_data_sets_than_the_first_ones_are_left_out():
    third = SPLEENS.model_copy(update={"name": "third"})
    methods = {f"alone_{n}": labels_alone(labelled_cases=both(n)) for n in (2, 4)} | {
        f"teacher_{n}": MeanTeacher(kind="mean_teacher", **SHARED, labelled_cases={"spleens": n, "third": n})
        for n in (2, 4)
    }
    curves = overall_label_curves((*BOTH, third), methods, results_of({name: [[0.5]] for name in methods}), LABELLED)
    assert [curve.name for curve in curves] == ["alone_4"]


def teacher(weight: float, limit: dict[str, int]) -> MeanTeacher:
    return MeanTeacher(kind="mean_teacher", **SHARED, labelled_cases=limit, consistency_weight=weight)


def test_a_method_with_one_number_of_cases_is_a_point_beside_a_curve_that_has_this_number():
    points = {f"teacher_{weight}": teacher(weight, both(2)) for weight in range(1, 13)}
    others = {"other_number": teacher(20, both(3)), "one_set": teacher(21, {"spleens": 2})}
    methods = {**points, **others, "all": labels_alone(), "two": labels_alone(labelled_cases=both(2))}
    results = results_of({name: [[0.01 * place, 0.01 * place + 0.2]] for place, name in enumerate(methods)})
    curves = overall_label_curves(BOTH, methods, results, LABELLED)
    assert [(curve.name, curve.counts) for curve in curves] == [
        ("all", (4, 2 * MANY)),
        *((name, (4,)) for name in points),
    ]
    (axes,) = label_curve_figure(curves, "labelled cases", list(methods), curves[0]).axes
    markers = [line.get_xdata()[0] for line in axes.get_lines() if line.get_label() in map(method_label, points)]
    left, _ = axes.get_xlim()
    assert len(set(markers)) == len(points)
    assert all(left < marker < 4 for marker in markers), "beside the curve, within the axes"


def test_a_point_needs_no_number_of_all_cases():
    """As in folds; a method of the point's kind that learns from all cases does not take the point away."""
    methods = {f"alone_{n}": labels_alone(labelled_cases=both(n)) for n in (2, 4)}
    methods |= {"teacher_2": teacher(1, both(2)), "teacher_all": teacher(1, {})}
    curves = overall_label_curves(BOTH, methods, results_of({name: [[0.5]] for name in methods}), {})
    assert [(curve.name, curve.counts) for curve in curves] == [("alone_4", (4, 8)), ("teacher_2", (4,))]


def test_the_caption_says_what_a_point_is():
    methods = {f"alone_{n}": labels_alone(labelled_cases=both(n)) for n in (2, 8)} | {"teacher_2": teacher(1, both(2))}
    dice = {"alone_2": 0.5, "alone_8": 0.7, "teacher_2": 0.6}
    (kind,) = [each for each in FIGURES if each.title == "What labelled cases are worth"]
    caption = kind.caption_of(evidence_of(dice, methods), "")
    assert "A marker without a line" in caption
    assert "teacher 2 with 4 as alone 8 with about 8." in caption
    (axes,) = kind.draw(evidence_of(dice, methods), "").axes
    (dotted,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert dotted.get_xdata()[0] < 4
    assert dotted.get_xdata()[1] == pytest.approx(8)
    del methods["teacher_2"], dice["teacher_2"]
    assert "A marker without" not in kind.caption_of(evidence_of(dice, methods), "")


@pytest.mark.parametrize(
    "limits",
    [
        [{"spleens": 2}, {"spleens": 8}],
        [{"spleens": 2, "livers": 8}, {"spleens": 8, "livers": 2}],
        [{"spleens": 2, "livers": 8}, {"spleens": 9, "livers": 2}],
    ],
    ids=["one data set varies", "as many in all", "no order"],
)
def test_there_is_no_curve_of_the_average_without_an_order_in_several_data_sets(limits):
    methods = {f"method_{place}": labels_alone(labelled_cases=limit) for place, limit in enumerate(limits)}
    assert overall_label_curves(BOTH, methods, results_of({name: [[0.5]] for name in methods}), LABELLED) == []


def test_the_average_of_a_curve_is_over_rois_and_then_over_trainings():
    methods = {"two": labels_alone(labelled_cases=both(2)), "four": labels_alone(labelled_cases=both(4))}
    spleen = results_of({name: [[0.2, 0.4], [0.4, 0.6]] for name in methods}).scores
    liver = spleen.assign(roi="liver", dice=0.9).drop(spleen.index[spleen["case"] == "1"])
    results = Results(pd.concat([spleen, liver]), ("spleen", "liver"), tuple(methods))
    (curve,) = overall_label_curves(BOTH, methods, results, LABELLED)
    assert curve.trainings == (pytest.approx((0.6, 0.7)), pytest.approx((0.6, 0.7)))
    assert [each.mean for each in curve.dice] == pytest.approx([0.65, 0.65])


def curve_of(name: str, dice: dict[int, float]) -> LabelCurve:
    summaries = tuple(Summary(9, 1, each, each, each, each) for each in dice.values())
    return LabelCurve(name, "average", tuple(dice), summaries, tuple((each,) for each in dice.values()))


def test_the_cases_for_a_dice_lie_on_the_line_over_doublings():
    curve = curve_of("alone", {2: 0.5, 8: 0.7, 16: 0.6})
    assert cases_for(curve, 0.5) == 2
    assert cases_for(curve, 0.6) == pytest.approx(4)
    assert cases_for(curve, 0.7) == pytest.approx(8)
    assert (cases_for(curve, 0.49), cases_for(curve, 0.71)) == (None, None)


def test_the_cases_for_a_dice_are_the_fewest_where_a_curve_falls_or_is_flat():
    falling, flat = curve_of("alone", {2: 0.6, 4: 0.5, 8: 0.7}), curve_of("alone", {2: 0.5, 4: 0.5, 8: 0.7})
    assert cases_for(falling, 0.58) is None
    assert cases_for(falling, 0.6) == 2
    assert cases_for(flat, 0.5) == 2
    assert cases_for(flat, 0.6) == pytest.approx(4 * 2**0.5)


def evidence_of(dice: dict[str, float], methods: dict[str, Method]) -> SimpleNamespace:
    return SimpleNamespace(
        data=SimpleNamespace(datasets=BOTH),
        trainings=SimpleNamespace(methods=methods, labelled_cases=LABELLED),
        results=results_of({name: [[value]] for name, value in dice.items()}),
    )


def test_the_caption_says_with_how_many_cases_labels_alone_have_as_much():
    """4, 16 and 32 labelled cases; a training that began with a model is not labels alone."""
    kinds = {"grown": labels_alone(start_from="old.safetensors"), "alone": labels_alone()}
    kinds["teacher"] = MeanTeacher(kind="mean_teacher", **SHARED)
    methods = {
        f"{name}_{n}": kind.model_copy(update={"labelled_cases": both(n)})
        for name, kind in kinds.items()
        for n in (2, 8)
    }
    dice = {"grown_2": 0.9, "grown_8": 0.9, "alone_2": 0.5, "alone_8": 0.7, "teacher_2": 0.6, "teacher_8": 0.65}
    (kind,) = [each for each in FIGURES if each.title == "What labelled cases are worth"]
    evidence = evidence_of(dice, methods)
    assert list(kind.items(evidence)) == [""]
    caption = kind.caption_of(evidence, "")
    assert "Dotted, equal means: teacher 8 with 4 as alone 8 with about 8. Whether" in caption
    (axes,) = kind.draw(evidence, "").axes
    (dotted,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert dotted.get_xdata() == pytest.approx([4, 8])
    behind = evidence_of(dice | {"teacher_2": 0.4}, methods)
    assert "Dotted" not in kind.caption_of(behind, "")
    assert not list(kind.items(evidence_of({"alone_2": 0.5}, {"alone_2": methods["alone_2"]})))


def test_a_dotted_line_leads_to_where_labels_alone_have_as_much():
    alone = curve_of("alone", {2: 0.5, 8: 0.7, 20: 0.71})
    other = curve_of("other", {2: 0.6, 8: 0.8})
    (axes,) = label_curve_figure([alone, other], "labelled cases", ["alone", "other"], alone).axes
    (dotted,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert dotted.get_xdata() == pytest.approx([2, 4])
    assert dotted.get_ydata() == pytest.approx([0.6, 0.6])


MOTS_ROIS = (
    *("liver", "liver_tumor", "kidney", "kidney_tumor", "hepatic_vessel", "hepatic_vessel_tumor"),
    *("pancreas", "pancreas_tumor", "colon_cancer", "lung_tumor", "spleen"),
)
DEMO_ROIS = ("liver", "liver_tumor", "kidney", "kidney_tumor", "lung_tumor", "spleen")


def lab(colour: tuple[int, int, int]) -> np.ndarray:
    """CIE L*a*b* (D65) of an sRGB colour, in which distances are about those that people see."""
    share = np.array(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("rois", [MOTS_ROIS, DEMO_ROIS, tuple(f"organ_{number}" for number in range(11))])
def test_no_two_rois_have_colours_that_are_hard_to_tell_apart(rois):
    colours = [lab(colour) for colour in roi_colours(rois)]
    distances = [np.linalg.norm(one - other) for place, one in enumerate(colours) for other in colours[:place]]
    assert min(distances) > 15


@pytest.mark.parametrize(
    ("roi", "stored", "text", "clipped"),
    [
        ("liver", (-325, 325), "soft tissue window, −160 to 240 HU", False),
        ("lung_tumor", (-1400, 325), "lung window, −1350 to 150 HU", False),
        ("lung_tumor", (-325, 325), "lung window, −325 to 150 HU", True),
        ("lung_tumor", (-math.inf, 325), "lung window, −1350 to 150 HU", False),
    ],
)
def test_a_slice_has_the_window_of_its_roi_as_far_as_the_volumes_hold_it(roi, stored, text, clipped):
    window = window_of(roi, stored)
    assert (window.text, window.clipped) == (text, clipped)


@pytest.mark.parametrize(
    ("roi", "pictured", "said"),
    [
        ("lung_tumor", (-325, 325), "clipped at −325 to 325 HU: anything darker is black, as the lungs are"),
        ("lung_tumor", (-math.inf, 325), "end at −325 HU; what is darker, lungs and air, is drawn at half"),
        ("liver", (-325, 325), ""),
        ("liver", (-math.inf, 325), ""),
    ],
)
def test_a_caption_says_what_the_volumes_lack_of_the_window(roi, pictured, said):
    results = results_of({"one": [[0.5] * 3] * 2})
    results.scores["roi"], results.scores["voxels_truth"] = roi, 1
    record = SimpleNamespace(window_hu=(-325.0, 325.0))
    scan = SimpleNamespace(volume=SimpleNamespace(record=record, pictured_hu=pictured))
    scans = {(row.dataset, row.case): scan for row in results.scores.itertuples()}
    slices = SimpleNamespace(scans=scans, runs={"one": "one-seed0"})
    evidence = SimpleNamespace(results=results, slices=slices, which_training="")
    (kind,) = (kind for kind in FIGURES if kind.name == "slices" and kind.folded)
    caption = kind.caption_of(evidence, roi)
    assert said in caption
    assert ("The volumes" in caption) is bool(said)


def test_a_slice_has_the_patients_right_on_its_left_and_a_scale_bar_of_its_length():
    axes = Figure().add_subplot()
    axes.set_xlim(-100, 150)
    draw_marks(axes)
    places = {text.get_text(): text.get_position()[0] for text in axes.texts}
    # x grows to the patient's left.
    assert places["R"] < 0.5 < places["L"]
    (bar,) = axes.get_lines()
    assert np.ptp(bar.get_xdata()) == 100
    assert "10 cm" in places


def test_no_two_methods_look_alike():
    names = [f"method_{number}" for number in range(20)]
    looks = zip(method_colours(names).values(), method_markers(names).values(), strict=True)
    assert len(set(looks)) == len(names)


def test_the_thresholds_of_every_method_that_decides_are_drawn_once():
    own = DecisionRule(positive_above=0.9, negative_below=0.2)
    methods = [
        labels_alone(),
        LatentClass(kind="latent_class", **SHARED),
        LatentClass(kind="latent_class", consistency=False, **SHARED),
        LatentClass(kind="latent_class", decision=own, **SHARED),
    ]
    assert common_thresholds(methods) == [(0.1, 0.8), (0.2, 0.9)]


def test_thresholds_are_lines_at_their_scores():
    scores = pd.DataFrame({"dataset": "livers", "case": "a", "score_spleen": np.linspace(0, 1, 20)})
    (axes,) = existence_figure(scores, ["spleen"], {("livers", "a"): ("liver",)}, [(0.1, 0.8)]).axes
    assert [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"] == [0.1, 0.8]


@pytest.mark.parametrize("patches", ["training crops", "pool"])
def test_every_way_to_score_is_drawn(patches):
    shares = ("recall", "specificity", *(f"{one}_{kind}precision" for one in DECISIONS[:2] for kind in ("", "organ_")))
    judged = pd.DataFrame(
        {"roi": "spleen", "patches_of": patches, "scores": ["cached", "online"]} | dict.fromkeys(shares, 0.5)
    )
    pairs = (f"{one}_{other}" for one in DECISIONS for other in DECISIONS)
    agreement = pd.DataFrame({"roi": ["spleen"], "patches": [9]} | dict.fromkeys(pairs, 1))
    figure = existence_check_figure(ExistenceCheck("paper", agreement, judged), ["spleen"])
    said = figure.axes[1].get_legend_handles_labels()[1]
    assert sorted(said) == ["cached", "cached, for its organ", "online"]
    assert [axes.get_xlabel().split(" ")[0] for axes in figure.axes[1:]] == ["recall", "specificity"]


def test_pseudo_labels_are_summed_over_decisions_and_trainings(tmp_path):
    """Two trainings of one method. All numbers are worked out by hand from the counts below."""
    columns = (
        "run,dataset,roi,decision,snapshot,crops,crops_with_roi,voxels_predicted,voxels_true,voxels_true_positive,"
    )
    columns += "voxels_in_rivals,inside_spleen,inside_liver\n"
    (tmp_path / "a-seed0.csv").write_text(
        columns + "a-seed0,x,spleen,positive,0.5,4,3,10,20,6,2,0,2\na-seed0,x,spleen,negative,0.5,2,1,0,10,0,0,0,0\n"
    )
    (tmp_path / "a-seed1.csv").write_text(columns + "a-seed1,x,spleen,positive,0.5,4,4,10,10,4,1,0,1\n")
    files = [tmp_path / "a-seed0.csv", tmp_path / "a-seed1.csv"]
    table = read_pseudo_labels(files, {"a-seed0": "a", "a-seed1": "a"})
    positive, negative = (table[table["decision"] == decision].iloc[0] for decision in ("positive", "negative"))
    assert (positive["precision"], positive["recall"]) == (10 / 20, 10 / 30)
    assert (positive["in_rivals"], positive["inside_liver"]) == (3 / 20, 3)
    assert math.isnan(negative["precision"])
    assert negative["recall"] == 0
    (row,) = over_decisions(table).to_dict("records")
    assert (row["precision"], row["recall"], row["in_rivals"], row["ruled_out"]) == (10 / 20, 10 / 40, 3 / 20, 10 / 40)
    axes = pseudo_label_figure(table, ["b", "a"], ["liver", "spleen"]).axes
    assert [each.get_lines()[0].get_ydata().tolist() for each in axes] == [[0.5], [0.25], [0.15], [0.25]]
    assert read_pseudo_labels([], {}) is None


def scan_of(image: np.ndarray, body: tuple, window_hu: tuple[float, float] = (-325.0, 325.0)) -> Scan:
    """A test case of voxels of 2 × 3 × 5 mm from (10, 20, 30) mm on, of which no file is there."""
    scan = Scan(CaseFiles("some", "case", Path("nowhere"), {}, None), ("liver",))
    grid = Geometry(size=image.shape[::-1], spacing_mm=(2.0, 3.0, 5.0), origin_mm=(10.0, 20.0, 30.0))
    record = SimpleNamespace(
        grid=grid, spacing_mm=grid.spacing_mm, origin_mm=grid.origin_mm, body=body, window_hu=window_hu
    )
    scan.__dict__.update(image=image, volume=SimpleNamespace(record=record, shape=image.shape))
    return scan


@pytest.mark.parametrize("air", [-1000, -325])
def test_a_slice_is_cropped_to_the_patient_in_it(air):
    image = np.full((12, 40, 50), air, np.int16)
    image[:, 10:30, 5:25] = 40
    image[6, 12:20, 30:40] = 40  # an arm
    image[6, 35, 2:48] = 300  # the table
    scan = scan_of(image, ((0, 8, 4), (12, 31, 42)))
    margin = 8
    head = scan.body_in_slice_mm("axial", 30.0)
    assert head == pytest.approx((9 + 5 * 2 - margin, 9 + 25 * 2 + margin, 18.5 + 30 - margin, 18.5 + 90 + margin))
    with_arm = scan.body_in_slice_mm("axial", 30.0 + 6 * 5)
    assert with_arm == pytest.approx((head[0], 9 + 40 * 2 + margin, *head[2:]))
    coronal = scan.body_in_slice_mm("coronal", 20.0 + 25 * 3)
    assert coronal == pytest.approx((*head[:2], 27.5 - margin, 27.5 + 12 * 5 + margin))
    nothing = scan.body_in_slice_mm("coronal", 20.0)
    assert nothing == pytest.approx((9 + 4 * 2, 9 + 42 * 2, 27.5, 27.5 + 12 * 5))


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_in_the_overview_no_text_runs_into_another_or_into_a_slice_and_a_case_has_one_frame(workspace, count):
    evidence = read_evidence(workspace.settings, workspace.inputs)
    scans = [evidence.slices.scans[case] for case in choose_median_cases(evidence.results)]
    runs = list(evidence.slices.runs.values())
    figure = overview_panel(scans, {f"a_method_with_a_name_{place}": runs[place % 2] for place in range(count)})
    figure.canvas.draw()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts] + [figure.legends[0].get_window_extent()]
    apart = [one.padded(-1) for one in boxes]
    assert not any(one.overlaps(other) for place, one in enumerate(apart) for other in apart[:place])
    assert all(figure.bbox.padded(1).contains(*corner) for box in boxes for corner in (box.min, box.max))
    turns = 2 if count <= 2 else 1
    assert len(figure.axes) == len(scans) * (1 + count) * turns
    frames = np.array([(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes]).reshape(-1, 1 + count, 4)
    assert (frames == frames[:, :1]).all()


def confusion_file(folder: Path, run: str, rows: list[tuple[str, str, str, int, int]]) -> Path:
    path = folder / f"{run}.csv"
    columns = ["case", "roi", "true_roi", "voxels_true", "voxels_predicted"]
    pd.DataFrame(rows, columns=columns).assign(run=run, dataset="some").to_csv(path, index=False)
    return path


def test_confusion_is_a_mean_over_cases_and_then_over_trainings_and_its_cells_say_so(tmp_path):
    files = [
        confusion_file(tmp_path, "a-seed0", [("1", "kidney", "spleen", 100, 10), ("2", "kidney", "spleen", 10, 3)]),
        confusion_file(tmp_path, "a-seed1", [("1", "kidney", "spleen", 100, 40), ("1", "spleen", "spleen", 100, 90)]),
        confusion_file(tmp_path, "b-seed0", [("1", "kidney", "spleen", 1000, 4)]),
    ]
    table = read_confusion(files, [("a-seed0", "a", 0), ("a-seed1", "a", 1), ("b-seed0", "b", 0)])
    expected = {
        ("a", "kidney", "spleen"): [((0.1 + 0.3) / 2 + 0.4) / 2, 2, 2],
        ("a", "spleen", "spleen"): [0.9, 1, 1],
        ("b", "kidney", "spleen"): [0.004, 1, 1],
    }
    assert {tuple(row[:3]): pytest.approx(row[3:]) for row in table.to_numpy().tolist()} == expected
    figure = confusion_figure(table, Results(pd.DataFrame(), ("kidney", "spleen"), ("a", "b")))
    # A row for the spleen alone: no case labels kidneys.
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [["30", "90"], ["0.4", "–"]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["spleen"]


def test_false_voxels_are_shares_of_all_that_a_training_predicts():
    volumes = (
        "volume_prediction_ml",
        *(f"volume_false_{place}_ml" for place in ("in_other", "near_border", "elsewhere")),
    )
    rows = [
        ("a", 0, "1", 10.0, 1.0, 2.0, 3.0),
        ("a", 0, "2", 30.0, 3.0, 0.0, 1.0),
        ("a", 1, "1", 0.0, 0.0, 0.0, 0.0),
        ("a", 1, "2", 40.0, 4.0, 4.0, 0.0),
        ("b", 0, "1", 0.0, 0.0, 0.0, 0.0),
    ]
    scores = pd.DataFrame(rows, columns=["method", "seed", "case", *volumes]).assign(roi="spleen")
    results = Results(scores, ("spleen",), ("a", "b"))
    table = false_voxel_table(results)
    assert table.loc[0, ["predicted_ml", "false_in_other", "false_near_border", "false_elsewhere"]].tolist() == (
        pytest.approx([40, 4 / 40, 3 / 40, 2 / 40])
    )
    (axes,) = false_voxel_figure(table, results).axes
    assert [text.get_text() for text in axes.texts] == ["22 %", "nothing predicted", "spleen"]
    assert [bar.get_width() for bar in axes.patches][::2] == pytest.approx([10, 7.5, 5])


def test_the_validation_dice_is_drawn_at_its_epochs_alone():
    watched = pd.DataFrame(
        {
            "epoch": [1.0, 2.0, 3.0, 4.0],
            "validation_dice/spleen": [math.nan, 0.2, math.nan, 0.6],
            "validation_dice_mean": [math.nan, 0.3, math.nan, 0.5],
        }
    )
    histories = {"one-seed0": ("one", watched), "two-seed0": ("two", pd.DataFrame({"epoch": [1.0]}))}
    assert list(validated(histories)) == ["one-seed0"]
    figure = validation_figure(histories, ("one", "two"), ("liver", "spleen"))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["mean over ROIs", "spleen"]
    for axes, dice in zip(shown, ([0.3, 0.5], [0.2, 0.6]), strict=True):
        (line,) = axes.lines
        assert np.array_equal(line.get_xydata(), [[2.0, dice[0]], [4.0, dice[1]]])
