"""Snakemake's events as lines: header, stages, what is left out, the end."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline_lib.tools import terminal as module
from pipeline_lib.tools.terminal import TerminalHandler


class Run:
    """A handler and the events that Snakemake would send it."""

    def __init__(self) -> None:
        rules = [SimpleNamespace(name=name, log=log) for name, log in (("all", []), ("train", ["x"]), ("embed", ["x"]))]
        workflow = SimpleNamespace(rules=rules, configfiles=["config/my.yaml"], dag=SimpleNamespace(jobs=[]))
        manager = SimpleNamespace(settings=SimpleNamespace(nocolor=True), get_logfile=lambda: [".snakemake/log/a.log"])
        self.seen = 0
        self.handler = TerminalHandler(manager, workflow)

    def event(self, event: LogEvent | None, text: str = "", level: int = logging.INFO, **values: object) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
        vars(record).update(values, **({} if event is None else {"event": event}))
        self.handler.handle(record)

    def printed(self) -> list[str]:
        """The lines since the last call, each run of spaces made one."""
        lines = self.handler.screen.stream.getvalue().splitlines()
        self.seen, new = len(lines), lines[self.seen :]
        return [" ".join(line.split()) for line in new]

    def begin(self) -> None:
        self.event(LogEvent.RESOURCES_INFO, cores=2)
        self.event(LogEvent.RUN_INFO, stats={"embed": 1, "train": 2, "all": 1, "total": 4})

    def start(self, jobid: int, rule: str, log: str, **wildcards: str) -> None:
        self.event(LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, wildcards=wildcards, log=[log])


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module.sys, "stderr", io.StringIO())
        begun = Run()
    yield begun
    begun.handler.close()


def test_the_header_says_how_much_runs_on_what(run):
    run.event(None, "Building DAG of jobs...")
    run.begin()
    header = run.printed()
    assert header[0].startswith("config/my.yaml: 3 jobs on 2 cores, ")
    assert header[1:] == ["embed, train 2", "logs: logs/, .snakemake/log/a.log"]


def test_while_jobs_run_only_warnings_and_errors_of_snakemake_are_shown(run):
    run.event(None, "Config file is odd.")
    run.begin()
    run.printed()
    run.event(None, "Select jobs to execute...")
    run.event(LogEvent.PROGRESS, done=1, total=4)
    run.event(None, "Terminating processes on user request", logging.WARNING)
    run.event(LogEvent.ERROR, 'CalledProcessError in file "a.smk", line 3:\nCommand', logging.ERROR)
    run.event(LogEvent.ERROR, "Missing output of job", logging.ERROR)
    assert run.printed() == ["Terminating processes on user request", "Missing output of job"]


def test_before_jobs_run_every_message_is_shown(run):
    run.event(None, "Unlocked working directory.")
    assert run.printed() == ["Unlocked working directory."]


def test_a_run_that_succeeds_ends_with_its_time(run, tmp_path):
    run.begin()
    run.printed()
    for jobid, (rule, wildcards) in enumerate((("embed", {}), ("train", {"run": "a"}), ("train", {"run": "b"}))):
        run.start(jobid, rule, f"{jobid}.log", **wildcards)
        run.event(LogEvent.JOB_FINISHED, job_id=jobid)
    run.start(9, "all", "")
    run.handler.close()
    assert [line.rsplit(" ", 1)[0] for line in run.printed()] == [
        *("done embed", "done train a", "done train b"),
        "finished 3 jobs in",
    ]


def test_a_run_that_fails_ends_with_the_error(run, tmp_path):
    run.begin()
    run.start(1, "embed", "embed.log")
    run.start(2, "train", "train.log", run="a")
    run.printed()
    (tmp_path / "train.log").write_text("error: a: is wrong; mend it\n")
    run.event(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=2, log=["train.log"], rule_msg=None)
    run.event(LogEvent.JOB_FINISHED, job_id=1)
    run.handler.close()
    error = "error: a: is wrong; mend it [train.log]"
    assert run.printed() == [
        *("failed train a after 0:00", error, "done embed 0:00"),
        *("stopped after 0:00: 1 of 3 jobs are done, 1 failed", error),
    ]


def test_an_error_that_was_printed_just_now_is_not_repeated(run, tmp_path):
    run.begin()
    run.start(2, "train", "train.log", run="a")
    run.event(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=2, log=["train.log"], rule_msg=None)
    run.handler.close()
    assert sum("error: " in line for line in run.printed()) == 1
