"""Where a run stands, from recorded files."""

from __future__ import annotations

import json
import os
import time

import pytest

from pipeline_lib.tools.status import main, sparkline

from .test_snakemake_log import AGAIN, FAILURE, HEAD, logged


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run with one volume made, one queued, one training at step 40 of 100, one queued."""
    monkeypatch.chdir(tmp_path)
    logged(tmp_path, HEAD)
    written(tmp_path / "logs/resample/a/c1.log", "warning: c1 has no air\n")
    written(
        tmp_path / "logs/train/baseline-seed0.log",
        "train baseline-seed0: resuming after step 10\n"
        "train baseline-seed0  step 39/100  39 %  0:10, 0:12 left  loss 0.5\n",
    )
    work = tmp_path / "work/train/0123"
    written(work / "run.json", '{"run": "baseline-seed0"}')
    validation = {"validation_dice": {"spleen": 0.5, "liver": 0.25}, "validation_dice_mean": 0.375}
    validation |= {"teacher_validation_dice": {"spleen": 0.5}, "teacher_validation_dice_mean": 0.5}
    rows = [
        {
            "step": step,
            "epoch": step / 10,
            "seconds_per_step": 0.5,
            "skipped_steps": 2,
            "not_learned": "spleen",
            "loss": {"total": 10 - step / 10, "latent": 1.0},
        }
        | (validation if step % 10 == 0 else {})
        for step in range(2, 41, 2)
    ]
    written(work / "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + '{"half')
    return tmp_path


def written(path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lines_of(capsys, *arguments: str) -> list[str]:
    assert main(arguments) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_what_is_done_running_and_queued_and_how_each_training_does(folder, capsys):
    lines = lines_of(capsys)
    assert lines[0].startswith("/study/config.yaml: 1 of 4 jobs are done, ")
    assert lines[1:] == [
        "warning: c1 has no air",
        "train baseline-seed0: resuming after step 10",
        "running train baseline-seed0 step 39/100 39 %, 0:12 left loss 0.5",
        "queued resample 1, train 1",
        "",
        "train baseline-seed0: step 40/100, 40 %, epoch 4.0, 0.5 s per step, 0:30 left",
        "total ███████▇▇▇▇▇▇▆▆▆▆▆▆▅ 6.0000",
        "latent ████████████████████ 1.0000",
        "validation ████ Dice 0.3750",
        "its teacher ████ Dice 0.5000",
        "liver 0.25, spleen 0.50",
        "2 steps were skipped, not finite",
        "not learned so far: spleen",
    ]


def test_a_failed_job_is_shown_with_its_error(folder, capsys):
    (folder / "logs/train/baseline-seed0.log").write_text("error: out of memory; lower it\n")
    logged(folder, HEAD + FAILURE + "Complete log(s): x\n")
    assert lines_of(capsys)[2:] == [
        "failed train baseline-seed0 after 0:53",
        "error: out of memory; lower it [logs/train/baseline-seed0.log]",
    ]


def test_a_job_that_waits_on_a_cluster_for_its_second_try_is_waiting(folder, capsys):
    (folder / "logs/train/baseline-seed0.log").unlink()
    logged(folder, HEAD + FAILURE + AGAIN)
    assert any(line.startswith("waiting train baseline-seed0") for line in lines_of(capsys))


def test_a_run_that_shows_no_sign_of_life_is_suspected_dead(folder, capsys):
    past = time.time() - 3600
    for path in folder.rglob("*.log"):
        os.utime(path, (past, past))
    assert "warning: no sign of life for 1:00:0" in "\n".join(lines_of(capsys, str(folder)))


def test_a_folder_without_a_run_is_refused_in_a_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: has no run")


def test_a_sparkline_shows_means_from_zero_to_the_largest():
    assert sparkline([0, 0, 4, 4, 8, 8], width=3) == "▁▅█"
    assert sparkline([0.0]) == "▁"
    assert sparkline([3, 3]) == "██"
    assert len(sparkline(range(1, 2000))) == 32
