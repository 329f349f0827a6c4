"""The table of OpenKBP's patients, and what a config may ask of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.layouts import published
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.openkbp import patients, patients_digest
from pipeline_lib.config.schema import Config
from pipeline_lib.errors import UserError
from pipeline_lib.stages.acquire import settings as acquire
from pipeline_lib.tools.disk import bytes_needed

BASE = Path(__file__).parents[2]
ORGANS = {"Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible"}
ARCHIVE = {"url": "https://example.org/open-kbp.zip", "path": "open-kbp.zip"}


def config_of(source: dict | None = None, **changes) -> Config:
    """The tiny config with OpenKBP as its fully labelled data set, `kbp`."""
    content = yaml.safe_load((BASE / "tests" / "configs" / "tiny.yaml").read_text(encoding="utf-8"))
    content["datasets"]["fully_labelled"] = {
        "name": "kbp",
        "layout": "openkbp",
        "source": source or {"kind": "download", "files": [ARCHIVE]},
        "cases": ["okbp_001", "okbp_002"],
        "split": "all_training",
        "licence": "MIT",
        **changes,
    }
    return load_config(content, BASE)


def refusal(**changes) -> str:
    with pytest.raises(UserError) as error:
        config_of(**changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_patient_is_either_excluded_with_a_reason_or_has_all_that_is_read():
    table = patients()
    assert list(table) == [f"okbp_{number:03d}" for number in range(1, 341)]
    for case, patient in table.items():
        assert patient.folder.endswith(f"-pats/pt_{int(case[5:])}")
        if patient.excluded:
            assert not patient.blobs, case
            continue
        assert all(0 <= first < end <= 128 for first, end in patient.kept), case
        assert set(patient.labelled) <= ORGANS
        assert patient.labelled, case
        read = {"ct.csv", "voxel_dimensions.csv", *(f"{organ}.csv" for organ in patient.labelled)}
        assert set(patient.blobs) == read, case
        assert all(len(blob) == 40 and int(blob, 16) for blob in patient.blobs.values())


def test_a_refused_contour_is_not_among_those_that_are_labelled():
    refused = {case: patient for case, patient in patients().items() if patient.refused}
    assert len(refused) == 7
    for patient in refused.values():
        for reason in patient.refused.split("; "):
            organ = reason.partition(":")[0]
            assert organ in ORGANS
            assert organ not in patient.labelled


def test_all_patients_of_the_table_may_be_used_but_the_excluded_ones():
    usable = [case for case, patient in patients().items() if not patient.excluded]
    assert config_of(cases=usable).datasets.fully_labelled.used_cases == tuple(usable)
    assert "okbp_051 cannot be used (body contour cuts through the head" in refusal(cases=["okbp_001", "okbp_051"])
    skip = [{"case": "okbp_051", "reason": "cut"}]
    assert config_of(cases=["okbp_001", "okbp_051"], skip=skip)


def test_a_case_that_was_never_published_is_refused():
    assert "there is no case pt_1; cases are okbp_001 to okbp_340" in refusal(cases=["pt_1"])


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "download", "files": [ARCHIVE, {**ARCHIVE, "path": "b.zip"}]},
        {"kind": "download", "files": [{**ARCHIVE, "path": "open-kbp.csv"}]},
        {"kind": "download", "per_case": [{"url": "https://example.org/{case}.zip", "path": "{case}.zip"}]},
    ],
)
def test_a_download_is_one_archive(source):
    assert "layout openkbp is read from one archive" in refusal(source=source)


def test_what_the_table_says_of_other_cases_changes_no_settings():
    before = acquire.settings_from(config_of(), "kbp")
    assert before.patients == patients_digest(patients(), ("okbp_001", "okbp_002"))
    assert before.patients != acquire.settings_from(config_of(cases=["okbp_001", "okbp_003"]), "kbp").patients
    assert published("msd").patients is None


def several(*names: str, **changes: object) -> Config:
    """A config with as many data sets of OpenKBP, all from one archive of 600 MB; `changes` are the first's of it."""
    config = config_of(source={"kind": "download", "files": [{**ARCHIVE, "about_gb": 0.6}]})
    one = config.datasets.fully_labelled
    first = config_of(source={"kind": "download", "files": [{**ARCHIVE, "about_gb": 0.6, **changes}]})
    sources = [first.datasets.fully_labelled.source, *[one.source] * (len(names) - 1)]
    sets = tuple(one.model_copy(update={"name": name, "source": of}) for name, of in zip(names, sources, strict=True))
    return config.model_copy(update={"datasets": config.datasets.model_copy(update={"partially_labelled": sets})})


def test_data_sets_know_who_else_reads_their_archive():
    config = several("a", "b")
    assert sharing(config, "a") == ["b", "kbp"]
    assert sharing(config, "kbp") == ["a", "b"]
    other = config_of().datasets.partially_labelled[0].name
    assert sharing(config_of(), other) == []


def sharing(config: Config, dataset: str) -> list[str]:
    return [other.name for other in acquire.execution_from(config, dataset).sharing]


SAME = [{"about_gb": 0.7}, {"about_gb": None, "size_bytes": 600_000_000}, {"path": "another.zip"}]


@pytest.mark.parametrize("changes", SAME)
def test_an_archive_is_the_same_whatever_else_is_said_of_it(tmp_path, changes):
    config = several("a", "b", **changes)
    assert sharing(config, "a") == ["b", "kbp"]
    assert sharing(config, "b") == ["a", "kbp"]
    assert bytes_needed(config, tmp_path) < 1e9 < 0.6e9 + bytes_needed(several("b"), tmp_path)


@pytest.mark.parametrize("changes", [{"url": "https://example.org/b.zip"}, {"md5": "0" * 32}, {"sha256": "0" * 64}])
def test_another_address_or_checksum_is_another_archive(tmp_path, changes):
    config = several("a", "b", **changes)
    assert sharing(config, "a") == []
    assert sharing(config, "b") == ["kbp"]
    assert bytes_needed(config, tmp_path) > 1.2e9


def test_data_sets_that_read_the_user_s_own_copy_share_nothing():
    config = config_of(source={"kind": "local", "path": "open-kbp"})
    one = config.datasets.fully_labelled
    sets = (one.model_copy(update={"name": "a"}),)
    both = config.model_copy(update={"datasets": config.datasets.model_copy(update={"partially_labelled": sets})})
    assert sharing(both, "a") == []


def test_an_archive_that_several_read_takes_its_place_on_the_disk_once(tmp_path):
    more = bytes_needed(several("a", "b", "c"), tmp_path) - bytes_needed(several("a"), tmp_path)
    assert 0 < more < 0.3e9
    assert bytes_needed(several("a"), tmp_path) > 0.6e9
