"""What failed, in one line for each job, from Snakemake's log and those of the jobs."""

from __future__ import annotations

from pipeline_lib.tools.failures import failures

LOG = """\
[Thu Jan  1 00:00:00 2026]
Error in rule resample:
    message: None
    jobid: 5
    output: results/a
    log: logs/resample/a/b.log (check log file(s) for error details)
    shell:
        exec python -m pipeline_lib.stages.resample.run
        (command exited with non-zero exit code)
"""


def written(folder, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_a_failed_job_is_one_line_with_its_error_and_its_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "snakemake.log", LOG + LOG + LOG.replace("a/b", "a/c").replace("rule", "group job"))
    written(tmp_path, "logs/resample/a/b.log", "resample  3 cases\nerror: b.nii.gz: is damaged; fix it\n")
    written(tmp_path, "logs/resample/a/c.log", "Traceback\n  File\nRuntimeError: no space\n\n")
    assert list(failures([tmp_path / "snakemake.log"])) == [
        "error: b.nii.gz: is damaged; fix it [logs/resample/a/b.log]",
        "error: RuntimeError: no space [logs/resample/a/c.log]",
    ]


def test_a_job_without_a_log_is_named_all_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "snakemake.log", LOG)
    assert list(failures([tmp_path / "snakemake.log"])) == [
        "error: the job ended without a message [logs/resample/a/b.log]"
    ]
