"""ROIs that are never found are named once, while there is time to stop."""

import numpy as np
import pytest
import torch

from pipeline_lib.training.silent_rois import SilentRois, present_and_found


def test_the_probability_inside_labels_is_that_of_the_naive_loop():
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 4, 2, 3, 5))
    labels = random.random((3, 4, 2, 3, 5)) < 0.3
    labelled = random.random((3, 4)) < 0.6
    labels[0, 0] = False
    labelled[0, 0] = True
    counts = present_and_found(*map(torch.from_numpy, (logits, labels, labelled)))
    for sample in range(3):
        for roi in range(4):
            inside = logits[sample, roi][labels[sample, roi]] if labelled[sample, roi] else np.zeros(0)
            assert counts["present"][sample, roi].item() == (len(inside) > 0)
            mean = np.mean(1 / (1 + np.exp(-inside))) if len(inside) else 0.0
            assert counts["found"][sample, roi].item() == pytest.approx(mean, abs=1e-6)


def watch(found: dict[str, float], present: dict[str, float], steps=100, silent_rois=None, first=1, last=None):
    watcher = silent_rois or SilentRois(tuple(found), steps)
    values = {f"present/{name}": share for name, share in present.items()}
    values |= {f"found/{name}": present[name] * probability for name, probability in found.items()}
    said = []
    for step in range(first, (last or steps) + 1):
        said += [(step, warning) for warning in watcher.note(step, values, batch_size=4)]
    return watcher, said


def test_a_roi_that_stays_at_zero_is_named_once_after_thirty_per_cent():
    found = {"liver": 0.8, "liver_tumor": 0.002, "colon_cancer": 0.0}
    watcher, said = watch(found, {"liver": 1.0, "liver_tumor": 0.75, "colon_cancer": 0.0})
    assert [step for step, _ in said] == [30]
    assert said[0][1].startswith("liver_tumor is not learned: its mean probability inside its own labels was 0.20% in")
    assert "last 30 crops" in said[0][1]
    assert watcher.silent == ["liver_tumor"]


def test_few_crops_prove_nothing():
    assert watch({"spleen": 0.0}, {"spleen": 0.4})[1] == []
    assert len(watch({"spleen": 0.0}, {"spleen": 0.5})[1]) == 1


def test_a_roi_may_fall_silent_late():
    watcher, said = watch({"spleen": 0.5}, {"spleen": 1.0}, last=60)
    assert said == []
    _, said = watch({"spleen": 0.0}, {"spleen": 1.0}, silent_rois=watcher, first=61)
    assert [step for step, _ in said] == [70]


def test_a_resumed_watch_says_what_it_would_have_said():
    whole = watch({"spleen": 0.005}, {"spleen": 1.0})[1]
    before, _ = watch({"spleen": 0.005}, {"spleen": 1.0}, last=25)
    after = SilentRois(("spleen",), 100)
    after.load_state_dict(before.state_dict())
    assert watch({"spleen": 0.005}, {"spleen": 1.0}, silent_rois=after, first=26)[1] == whole
    again = SilentRois(("spleen",), 100)
    again.load_state_dict(after.state_dict())
    assert again.silent == ["spleen"]


def test_skipped_steps_count_for_nothing():
    watcher = SilentRois(("spleen",), 100)
    assert [watcher.note(step, {}, batch_size=4) for step in range(1, 101)] == [[]] * 100
