"""A run as Snakemake's own log tells it."""

from __future__ import annotations

import time

from pipeline_lib.tools.snakemake_log import TARGETS, Ended, Started, newest_run
from tests.workflow.test_profiles import rules_of_the_workflow

HEAD = """\
Assuming unrestricted shared filesystem usage.

SNAKEMAKE
=========
  Date: 2026-11-26 07:36:03
  Config file(s): [PosixPath('/study/config.yaml')]

Job stats:
job                count
---------------  -------
resample               2
train                  2
all                    1
total                  5

Select jobs to execute...
Execute 2 jobs...
[Thu Nov 26 07:36:07 2026]
rule resample:
    input: resources/raw/a/manifest.json
    output: results/volumes/a/c1/image.b2nd
    log: logs/resample/a/c1.log
    jobid: 3
    reason: Missing output files: results/volumes/a/c1/image.b2nd
    wildcards: dataset=a, case=c1
    resources: tmpdir=/tmp
[Thu Nov 26 07:36:07 2026]
localrule train:
    log: logs/train/baseline-seed0.log
    jobid: 4
    wildcards: run=baseline-seed0
Select jobs to execute...
[Thu Nov 26 07:36:17 2026]
Finished jobid: 3 (Rule: resample)
1 of 5 steps (20%) done
"""

FAILURE = """\
[Thu Nov 26 07:37:00 2026]
Error in rule train:
    message: None
    jobid: 4
    output: results/models/baseline-seed0/model.safetensors
    log: logs/train/baseline-seed0.log (check log file(s) for error details)
    shell:
        exec python -m pipeline_lib.stages.train.run --settings 'rule train:'
        (command exited with non-zero exit code)
"""

GROUP_FAILURE = """\
[Thu Nov 26 07:37:00 2026]
    message: SLURM-job '7' failed
    log: .snakemake/slurm_logs/7.log (check log file(s) for error details)
    jobs:
        rule train:
            jobid: 4
            log: logs/train/baseline-seed0.log (check log file(s) for error details)
        rule train:
            jobid: 5
            log: logs/train/latent_class-seed0.log (check log file(s) for error details)
    [Thu Nov 26 07:37:00 2026]
    Error in rule train:
        jobid: 4
        log: logs/train/baseline-seed0.log (check log file(s) for error details)
    [Thu Nov 26 07:37:00 2026]
    Error in rule train:
        jobid: 5
        log: logs/train/latent_class-seed0.log (check log file(s) for error details)
"""

AGAIN = """\
Trying to restart job 4.
[Thu Nov 26 07:37:10 2026]
Group job 1 (jobs in lexicogr. order):
    [Thu Nov 26 07:37:10 2026]
    rule train:
        log: logs/train/baseline-seed0.log
        jobid: 4
        wildcards: run=baseline-seed0
"""


def at(clock: str) -> float:
    return time.mktime(time.strptime(f"2026-11-26 {clock}", "%Y-%m-%d %H:%M:%S"))


def logged(folder, text: str, name: str = "2026-11-26T073603") -> None:
    (folder / ".snakemake" / "log").mkdir(parents=True, exist_ok=True)
    (folder / ".snakemake" / "log" / f"{name}.snakemake.log").write_text(text)


def test_jobs_begin_and_end_when_the_log_says(tmp_path):
    logged(tmp_path, HEAD)
    run = newest_run(tmp_path)
    assert run.configs == ("/study/config.yaml",)
    assert run.totals == {"resample": 2, "train": 2}
    assert run.events == (
        Started(at("07:36:07"), 3, "resample", {"dataset": "a", "case": "c1"}, "logs/resample/a/c1.log"),
        Started(at("07:36:07"), 4, "train", {"run": "baseline-seed0"}, "logs/train/baseline-seed0.log"),
        Ended(at("07:36:17"), (3,), failed=False),
    )
    assert run.began == at("07:36:07")
    assert not run.is_over


def test_a_failure_ends_a_job(tmp_path):
    logged(tmp_path, HEAD + FAILURE + "Complete log(s): /study/x\n")
    run = newest_run(tmp_path)
    assert run.events[-1] == Ended(at("07:37:00"), (4,), failed=True)
    assert run.is_over


def test_a_job_that_is_tried_again_began_when_it_last_did(tmp_path):
    logged(tmp_path, HEAD + FAILURE + AGAIN)
    begun, ended, again = newest_run(tmp_path).events
    assert (begun.jobid, ended.jobids) == (3, (3,))
    assert (again.jobid, again.seconds) == (4, at("07:37:10"))


def test_jobs_that_failed_as_a_group_failed_together(tmp_path):
    logged(tmp_path, HEAD + GROUP_FAILURE)
    *before, failed = newest_run(tmp_path).events
    assert failed == Ended(at("07:37:00"), (4, 5), failed=True, is_grouped=True)
    assert [event.jobid for event in before if isinstance(event, Started)] == [3, 4], "an error begins no job"


def test_the_newest_run_with_jobs_counts(tmp_path):
    assert newest_run(tmp_path) is None
    logged(tmp_path, HEAD)
    logged(tmp_path, "Unlocked working directory.\n", "2026-11-27T000000")
    assert newest_run(tmp_path).totals == {"resample": 2, "train": 2}


def test_mere_targets_are_the_rules_without_a_log():
    rules = rules_of_the_workflow()
    assert {rule for rule, text in rules.items() if "    log:\n" not in text} == set(TARGETS)
