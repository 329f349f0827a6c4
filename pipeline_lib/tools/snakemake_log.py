"""What Snakemake's own log in .snakemake/log/ says of a run: how many jobs, which began, ended or failed, and when."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

TARGETS = (
    *("all", "raw_data", "volumes", "embeddings", "roi_aware_network", "existence", "existence_check", "models"),
    *("pseudo_labels", "predictions", "scores", "report", "acquire", "text", "roi_aware", "segmentation", "inference"),
)
"""Rules that only name what is wanted: they do nothing, and have no log."""

_FOLDER = Path(".snakemake/log")
_ENDED = "Complete log(s): "
_TIME = re.compile(r"\[(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\]")
_RULE = re.compile(r"(?:    )?(?:local)?rule (\w+):")
_ERROR = re.compile(r"(    )?Error in rule (\w+):")
_FINISHED = re.compile(r"Finished jobid: (\d+) ")
_ITEM = re.compile(r" +(log|jobid|wildcards): (.+)")
_CONFIGS = re.compile(r"PosixPath\('(.+?)'\)")


@dataclass(frozen=True)
class Started:
    """A job began or was handed to a cluster, at `seconds` since 1970."""

    seconds: float
    jobid: int
    rule: str
    wildcards: dict[str, str]
    log: str


@dataclass(frozen=True)
class Ended:
    """A job is done, or has failed, alone or with others that a cluster ran as one job."""

    seconds: float
    jobids: tuple[int, ...]
    failed: bool
    is_grouped: bool = False


@dataclass(frozen=True)
class RunRecord:
    """One call of Snakemake; `totals` are its jobs by rule, without mere targets."""

    configs: tuple[str, ...]
    totals: dict[str, int]
    events: tuple[Started | Ended, ...]
    began: float
    last_sign: float
    is_over: bool


def newest_run(folder: Path) -> RunRecord | None:
    """The newest run in the working directory `folder` that had jobs to do; None if there is none."""
    for path in sorted((folder / _FOLDER).glob("*.snakemake.log"), reverse=True):
        text = path.read_text(encoding="utf-8", errors="replace")
        totals = _totals(text)
        if totals:
            events = tuple(_latest(_events(text.splitlines())))
            last_sign = path.stat().st_mtime
            began = min((event.seconds for event in events), default=last_sign)
            configs = tuple(_CONFIGS.findall(next(iter(re.findall(r"Config file\(s\): (.+)", text)), "")))
            return RunRecord(configs, totals, events, began, last_sign, _ENDED in text)
    return None


def _totals(text: str) -> dict[str, int]:
    table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", text, re.DOTALL | re.MULTILINE)
    rows = (line.split() for line in table[1].splitlines()) if table else ()
    return {rule: int(count) for rule, count in rows if rule not in TARGETS}


def _events(lines: list[str]) -> Iterator[Started | Ended]:
    """Events in their order. A block of lines tells of a job; the time stands before it, once for several blocks."""
    seconds, block, items = 0.0, ("", ""), {}
    for line in [*lines, ""]:
        item = _ITEM.fullmatch(line)
        if item:
            items.setdefault(item[1], item[2])
            continue
        if line.startswith("    ") and not (_RULE.fullmatch(line) or _ERROR.fullmatch(line)):
            continue
        if block[0] and "jobid" in items:
            yield from _event(seconds, *block, items)
        block, items = ("", ""), {}
        if found := _TIME.search(line):
            seconds = time.mktime(time.strptime(found[1], "%a %b %d %H:%M:%S %Y"))
        elif found := _RULE.fullmatch(line):
            block = ("rule", found[1])
        elif found := _ERROR.fullmatch(line):
            block = ("error in a group" if found[1] else "error", found[2])
        elif found := _FINISHED.match(line):
            yield Ended(seconds, (int(found[1]),), failed=False)


def _event(seconds: float, kind: str, rule: str, items: dict[str, str]) -> Iterator[Started | Ended]:
    jobid = int(items["jobid"])
    if kind != "rule":
        yield Ended(seconds, (jobid,), failed=True, is_grouped=kind != "error")
    elif "log" in items:
        pairs = (pair.partition("=") for pair in items.get("wildcards", "").split(", ") if pair)
        yield Started(seconds, jobid, rule, {name: value for name, _, value in pairs}, items["log"])


def _latest(events: Iterable[Started | Ended]) -> Iterator[Started | Ended]:
    """`events` without those of a job before it was tried again; jobs that failed as a group in one event."""
    events = list(events)
    begins = {event.jobid: place for place, event in enumerate(events) if isinstance(event, Started)}
    group: Ended | None = None
    for place, event in enumerate(events):
        if isinstance(event, Started):
            if begins[event.jobid] == place:
                yield event
            continue
        if begins.get(event.jobids[0], place) > place:
            continue
        if group is not None and (not event.is_grouped or event.seconds != group.seconds):
            yield group
            group = None
        if not event.is_grouped:
            yield event
        else:
            group = replace(event, jobids=(*(group.jobids if group else ()), *event.jobids))
    if group is not None:
        yield group
