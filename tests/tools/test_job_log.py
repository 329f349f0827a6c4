"""The log of a job, read while it grows."""

from __future__ import annotations

from pipeline_lib.tools.job_log import JobLog, last_lines


def said(path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_what_is_said_comes_once_and_progress_is_kept_apart(tmp_path):
    log = JobLog(tmp_path / "train.log")
    assert (log.news(), log.begun, log.reading) == ([], False, None)
    said(log.path, "train a: resuming after step 3", "train a  step 4/8  50 %  0:10, 0:10 left  loss 0.5")
    assert log.news() == ["train a: resuming after step 3"]
    assert log.begun
    assert (log.reading.done, log.reading.total, log.reading.share, log.reading.left) == (4, 8, 0.5, "0:10")
    said(log.path, "warning: something")
    assert log.news() == ["warning: something"]
    assert log.news() == []


def test_a_line_that_is_half_written_waits_for_its_end(tmp_path):
    log = JobLog(tmp_path / "a.log")
    log.path.write_bytes(b"first\nsec")
    assert log.news() == ["first"]
    log.path.write_bytes(b"first\nsecond\n")
    assert log.news() == ["second"]


def test_the_log_of_an_earlier_job_is_not_read_but_the_one_that_replaces_it_is(tmp_path):
    path = tmp_path / "a.log"
    said(path, "error: of yesterday")
    log = JobLog(path)
    assert (log.news(), log.failure, log.begun) == ([], [], False)
    path.unlink()
    said(path, "today")
    assert log.news() == ["today"]
    assert log.failure == []


def test_from_an_error_or_a_traceback_on_all_tells_of_the_failure(tmp_path):
    log = JobLog(tmp_path / "a.log")
    said(log.path, "before", "Traceback (most recent call last):", '  File "x"', "", "KeyError: 1")
    assert log.news() == ["before"]
    assert log.failure == ["Traceback (most recent call last):", '  File "x"', "", "KeyError: 1"]


def test_the_last_lines_of_a_file_leave_out_empty_ones(tmp_path):
    (tmp_path / "a.log").write_text("1\n2\n\n3\n\n")
    assert last_lines(tmp_path / "a.log", 2) == ["2", "3"]
    assert last_lines(tmp_path / "missing.log", 2) == []
