"""A download ends in the right file or in one clear line, whatever the server does; never in a wrong file."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_lib.datasets import transfers
from pipeline_lib.datasets.download import RetryPolicy, Wanted
from pipeline_lib.datasets.transfers import fetch
from pipeline_lib.errors import UserError
from tests.support.faulty_server import Fault, FaultyServer

NAME = "case.nii.gz"


def gzip_like(size: int, seed: int) -> bytes:
    return b"\x1f\x8b" + np.random.default_rng(seed).bytes(size - 2)


OLD, NEW = gzip_like(300_000, 1), gzip_like(300_000, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def wanted(server: FaultyServer, folder: Path, content: bytes | None = None, **stated: object) -> Wanted:
    if content is not None:
        stated["md5"] = hashlib.md5(content).hexdigest()
    return Wanted(server.url(NAME), folder / NAME, folder / ".acquire" / f"{NAME}.part", **stated)


def refused(file: Wanted, retry_policy: RetryPolicy) -> str:
    """The line with which the download ends; nothing may count as done."""
    with pytest.raises(UserError) as caught:
        fetch([file], "test", retry_policy)
    assert not file.path.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["truncated", "reset", "stalled"])
@pytest.mark.parametrize("with_checksum", [False, True])
def test_a_broken_connection_is_resumed_where_it_ended(server, folder, retry_policy, kind, with_checksum):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault(kind, after=100_000), Fault(kind, after=100_000)])
    file = wanted(server, folder, OLD if with_checksum else None)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD
    asked = server.gets(NAME)
    assert asked[0] is None
    if kind != "reset":  # a reset may drop bytes that were on their way
        assert asked[1:] == ["bytes=100000-", "bytes=200000-"]


def test_a_second_run_goes_on_where_the_first_one_stopped(server, folder, retry_policy):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("truncated", after=100_000), *[Fault("status", status=500)] * 4])
    file = wanted(server, folder, OLD)
    assert "500" in refused(file, retry_policy)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD
    assert server.gets(NAME)[-1] == "bytes=100000-"


def test_a_whole_part_that_was_not_moved_is_not_fetched_again(server, folder, retry_policy):
    server.files[NAME] = OLD
    file = wanted(server, folder, OLD)
    server.faults[NAME] = deque([Fault("truncated", after=100_000), *[Fault("status", status=500)] * 4])
    refused(file, retry_policy)
    file.partial.write_bytes(OLD)
    gets = len(server.gets(NAME))
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD
    assert len(server.gets(NAME)) == gets


@pytest.mark.parametrize("has_etags", [True, False])
@pytest.mark.parametrize("with_checksum", [True, False])
def test_a_file_that_changes_between_two_attempts_is_never_mixed(
    server, folder, retry_policy, has_etags, with_checksum
):
    server.has_etags = has_etags
    server.files[NAME], server.changes[NAME] = OLD, NEW
    server.faults[NAME] = deque([Fault("truncated", after=150_000), Fault("changed")])
    file = wanted(server, folder, NEW if with_checksum else None)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == NEW


def test_a_file_that_changes_between_two_runs_is_never_mixed(server, folder, retry_policy):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("truncated", after=150_000), *[Fault("status", status=500)] * 4])
    file = wanted(server, folder)
    refused(file, retry_policy)
    server.files[NAME] = NEW
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == NEW


@pytest.mark.parametrize("kind", ["ignores_range", "wrong_start", "wrong_size", "no_content_range", "too_long"])
def test_a_range_that_is_ignored_or_misanswered_does_no_harm(server, folder, retry_policy, kind):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("truncated", after=120_000), Fault(kind)])
    file = wanted(server, folder)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD


def test_without_version_or_checksum_a_broken_download_starts_anew(server, folder, retry_policy):
    server.has_etags = False
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("truncated", after=120_000)])
    fetch([wanted(server, folder)], "test", retry_policy)
    assert server.gets(NAME) == [None, None]


@pytest.mark.parametrize("kind", ["page", "disguised_page"])
def test_an_html_page_with_status_200_is_refused_by_name(server, folder, retry_policy, kind):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault(kind)] * 10)
    line = refused(wanted(server, folder), retry_policy)
    assert "HTML page" in line
    assert server.url(NAME) in line


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:52cc\nsize 783705670\n", "Git LFS pointer"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML message"),
        (b"not a gzip file at all", "does not begin as a .gz file"),
    ],
)
def test_a_body_that_is_not_the_file_is_refused(server, folder, retry_policy, body, words):
    server.files[NAME] = body
    assert words in refused(wanted(server, folder), retry_policy)


def test_an_empty_body_is_refused(server, folder, retry_policy):
    server.files[NAME] = b""
    assert "empty" in refused(wanted(server, folder), retry_policy)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_final_answer_ends_at_once(server, folder, retry_policy, status):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("status", status=status)] * 10)
    assert str(status) in refused(wanted(server, folder), retry_policy)
    assert len(server.gets(NAME)) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server, folder, retry_policy, status):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("status", status=status, headers={"Retry-After": "0"})] * 2)
    file = wanted(server, folder)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_stays_busy_is_given_up(server, folder, retry_policy, status):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("status", status=status)] * 50)
    assert str(status) in refused(wanted(server, folder), retry_policy)
    assert len(server.gets(NAME)) == retry_policy.attempts


@pytest.mark.parametrize("value", ["3600", formatdate(4_000_000_000, usegmt=True)])
def test_a_long_wait_that_the_server_asks_for_is_told_and_not_sat_out(server, folder, retry_policy, value):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("status", status=503, headers={"Retry-After": value})] * 9)
    assert "asks to come back in" in refused(wanted(server, folder), retry_policy)
    assert len(server.gets(NAME)) == 1


def test_a_wrong_checksum_never_counts_as_done(server, folder, retry_policy):
    server.files[NAME] = OLD
    line = refused(wanted(server, folder, NEW), retry_policy)
    assert hashlib.md5(OLD).hexdigest() in line
    assert hashlib.md5(NEW).hexdigest() in line


def test_damage_on_the_way_is_fetched_anew(server, folder, retry_policy):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("truncated", after=100_000), Fault("damaged")])
    file = wanted(server, folder, OLD)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD


@pytest.mark.parametrize("stated", [{"size_bytes": 299_999}, {"size_bytes": 300_001}, {"sha256": "0" * 64}])
def test_what_the_publisher_states_must_hold(server, folder, retry_policy, stated):
    server.files[NAME] = OLD
    refused(wanted(server, folder, **stated), retry_policy)


def test_a_length_that_nobody_tells_needs_a_checksum(server, folder, retry_policy):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("no_length")] * 9)
    assert "does not say how long" in refused(wanted(server, folder), retry_policy)
    file = wanted(server, folder, OLD)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD


def test_cut_chunks_are_no_end(server, folder, retry_policy):
    server.files[NAME] = OLD
    server.faults[NAME] = deque([Fault("cut_chunks", after=70_000)])
    file = wanted(server, folder)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD


def test_nobody_there_is_one_line(server, folder, retry_policy):
    file = wanted(server, folder)
    server.close()
    assert "refuses the connection" in refused(file, retry_policy)


def test_a_fetched_file_is_not_fetched_again(server, folder, retry_policy):
    server.files[NAME] = OLD
    file = wanted(server, folder)
    fetch([file], "test", retry_policy)
    before = len(server.requests)
    fetch([file], "test", retry_policy)
    assert len(server.requests) == before


def test_a_file_put_there_by_hand_counts_if_its_checksum_agrees(server, folder, retry_policy):
    server.files[NAME] = OLD
    file = wanted(server, folder, OLD)
    file.path.write_bytes(OLD)
    fetch([file], "test", retry_policy)
    assert not server.requests
    file.path.write_bytes(NEW)
    fetch([file], "test", retry_policy)
    assert file.path.read_bytes() == OLD


def test_a_disk_too_small_is_met_beforehand_with_the_figure(server, folder, retry_policy, monkeypatch):
    server.files[NAME] = OLD
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(transfers.shutil, "disk_usage", lambda path: usage._replace(free=2_000_000_000))
    file = wanted(server, folder, size_bytes=3_000_000_000)
    line = refused(file, retry_policy)
    assert "needs 3.0 GB more and 2.0 GB are free" in line
    assert not server.gets(NAME)


def test_many_files_arrive_and_one_that_fails_stops_the_rest(server, folder, retry_policy):
    contents = {f"case_{number}.nii.gz": gzip_like(50_000, number) for number in range(12)}
    server.files.update(contents)
    files = [Wanted(server.url(name), folder / name, folder / ".acquire" / name) for name in contents]
    fetch(files, "test", retry_policy)
    assert {file.path.name: file.path.read_bytes() for file in files} == contents
    absent = Wanted(server.url("absent.gz"), folder / "absent.gz", folder / ".acquire" / "absent")
    with pytest.raises(UserError, match="404"):
        fetch([absent, *files], "test", retry_policy)


FAULTS = st.one_of(
    st.builds(
        Fault,
        kind=st.sampled_from(["truncated", "reset", "cut_chunks"]),
        after=st.integers(0, 300_000),
    ),
    st.builds(
        Fault,
        kind=st.sampled_from(
            ["ignores_range", "wrong_start", "wrong_size", "no_content_range", "too_long", "page", "disguised_page"]
        ),
    ),
    st.just(Fault("changed")),
    st.builds(Fault, kind=st.just("status"), status=st.sampled_from([404, 429, 500, 503])),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(FAULTS, max_size=7), has_etags=st.booleans())
def test_any_series_of_faults_ends_in_a_right_file_or_in_one_line(
    server, tmp_path_factory, retry_policy, faults, has_etags
):
    server.files[NAME], server.changes[NAME] = OLD, NEW
    server.faults[NAME], server.has_etags = deque(faults), has_etags
    file = wanted(server, tmp_path_factory.mktemp("raw"))
    try:
        fetch([file], "test", retry_policy)
        # An old version that had arrived whole before the change is a right file too.
        assert file.path.read_bytes() in (OLD, NEW)
    except UserError as error:
        assert not file.path.exists()
        assert "\n" not in str(error)
