"""What would be trained again is said before a run starts, in a line each, with its cost."""

from __future__ import annotations

import json

from pipeline_lib.tools.planned import PlannedTraining, retraining_notes

REASON = "Missing output files: results/a, results/b; Params have changed since last execution: Union of; more"


def planned(folder, run: str, stage: str = "train") -> PlannedTraining:
    return PlannedTraining(stage, folder / run / "model.safetensors", REASON)


def trained(folder, run: str, rows: list[dict]) -> None:
    (folder / run).mkdir()
    (folder / run / "model.safetensors").touch()
    (folder / run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_training_whose_model_is_there_is_said_with_its_cause_and_its_time(tmp_path):
    rows = [{"step": 10, "seconds_per_step": 2.0}, {"step": 20, "seconds_per_step": 1.0}]
    trained(tmp_path, "baseline-seed0", rows)
    (note,) = retraining_notes([planned(tmp_path, "baseline-seed0"), planned(tmp_path, "new-seed0")])
    assert note == (
        "note: train baseline-seed0 is planned again (missing output files; params have changed since last execution; "
        "more): restored from models/ in seconds if nothing that it learns from has changed, else trained again, which "
        "took 0:30 the last time"
    )


def test_without_a_readable_history_the_time_is_left_out(tmp_path):
    trained(tmp_path, "network", [{"step": "?"}])
    (note,) = retraining_notes([planned(tmp_path, "network", "train_roi_aware")])
    assert note.startswith("note: train_roi_aware is planned again (")
    assert note.endswith("else trained again")


def test_many_trainings_are_never_more_than_a_few_lines(tmp_path):
    for number in range(20):
        trained(tmp_path, f"baseline-seed{number}", [])
    notes = list(retraining_notes(planned(tmp_path, f"baseline-seed{number}") for number in range(20)))
    assert len(notes) == 7
    assert notes[-1] == "note: and 14 more trainings likewise"
