"""Stage train: every method trains, whatever happens to it on the way."""

import multiprocessing
import os
import shutil
import signal
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline_lib.config.existence import DecisionRule, Existence
from pipeline_lib.config.method_settings import SupervisedLoss
from pipeline_lib.config.methods import Method, read_method
from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.config.validation import Validation
from pipeline_lib.data.crops import TrainingCase
from pipeline_lib.errors import UserError
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.lacuna.settings import Lacuna
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.mean_teacher.settings import MeanTeacher
from pipeline_lib.networks.model_file import load_segmentation_model
from pipeline_lib.networks.swin_unetr.network import TextConditionedSwinUnetr
from pipeline_lib.progress import say
from pipeline_lib.stages.score_existence import run as existence
from pipeline_lib.stages.train import run as segmentation
from pipeline_lib.stages.train.settings import TrainingExecution
from pipeline_lib.text.embeddings import write_embeddings
from pipeline_lib.training import folder_lock
from pipeline_lib.training.checkpoints import Checkpoints
from pipeline_lib.training.distributed import Distributed, init_distributed
from pipeline_lib.training.folder_lock import locked_folder
from pipeline_lib.training.step import Stepper
from tests.support.synthetic import write_dataset
from tests.support.tiny_training import in_processes
from tests.support.training_world import (
    CASES,
    EXECUTION,
    LABELLED,
    LATENT_CLASS,
    ROIS,
    TINY,
    existence_settings,
    read_history,
    segmentation_settings,
    stage_arguments,
    start_stage,
)

METHODS = {
    "labels_alone": LabelsAlone(kind="labels_alone", network="swin_unetr", encoder="vectors"),
    "mean_teacher": MeanTeacher(kind="mean_teacher", network="swin_unetr", encoder="vectors"),
    "without_mse": LatentClass(kind="latent_class", network="swin_unetr", encoder="vectors", consistency=False),
    "dodnet": LabelsAlone(kind="labels_alone", network="dodnet", encoder="one_hot"),
    "latent_class": LATENT_CLASS,
    "lacuna_without_scores": Lacuna(kind="lacuna", network="swin_unetr", encoder="vectors", decision=None),
}
UMASK = os.umask(0)
os.umask(UMASK)
for kind in get_args(get_args(Method)[0]):
    name = get_args(kind.model_fields["kind"].annotation)[0]
    trunk = name if name in TINY else "swin_unetr"
    METHODS.setdefault(name, kind(kind=name, network=trunk, encoder="vectors"))
MIRRORS = {"liver": "spleen", "spleen": "liver"}
SHORT = Optimisation(epochs=1, batch_size=2, learning_rate=1e-3)


@pytest.fixture
def here(world, scored_pools, tmp_path, monkeypatch):
    """The world, with a working directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return world


def paths(here, run, tmp_path):
    inputs, _ = here.segmentation_paths(run)
    if run == "dodnet":
        inputs = replace(inputs, embeddings=here.task_codes)
    folder = tmp_path / "results" / run
    return inputs, segmentation.Outputs(folder / "model.safetensors", folder / "history.jsonl")


def weights(outputs, which="student"):
    return load_segmentation_model(outputs.model, "cpu", which)[0].state_dict()


@pytest.fixture(scope="module")
def trained(world, scored_pools, tmp_path_factory):
    """The outputs of a short training of a method, by its name, each trained once."""

    @cache
    def outputs_of(name):
        folder = tmp_path_factory.mktemp(name)
        inputs, outputs = paths(world, name, folder)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.chdir(folder)
            segmentation.run(segmentation_settings(name, METHODS[name], optimisation=SHORT), EXECUTION, inputs, outputs)
        assert not list((folder / "work" / "train").iterdir())
        return outputs

    return outputs_of


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_its_model_can_be_used(name, trained):
    settings, outputs = segmentation_settings(name, METHODS[name]), trained(name)
    network, description = load_segmentation_model(outputs.model, "cpu")
    assert tuple(description["rois"]) == ROIS
    assert (description["run"], description["seed"]) == (name, 0)
    assert read_method(description["method"]) == settings.method
    assert tuple(map(tuple, description["structures"])) == settings.structures
    assert network(torch.zeros(1, 1, *settings.patches.shape)).shape == (1, len(ROIS), *settings.patches.shape)
    student, teacher = weights(outputs), weights(outputs, "teacher")
    same = all(torch.equal(value, teacher[key]) for key, value in student.items())
    assert same != settings.method.needs_teacher
    rows = read_history(outputs.history)
    assert [row["step"] for row in rows] == [1, 2, 3]
    # Both banks tell voxels apart in both mixed copies, four cross-entropies more.
    most = 20 if name == "ltuda" else 10
    assert all(0 < row["loss"]["total"] < most for row in rows)
    assert ("positive" in rows[0]) == settings.method.needs_existence


PARTS = [("swin_unetr", part) for part in ("outputs", "head", "prompt", "network")]


@pytest.mark.parametrize(("kind", "part"), [*PARTS, ("uniseg_unet", "prompt")])
def test_each_data_set_trains_its_own_part(kind, part, here, tmp_path):
    network = TINY[kind].model_copy(update={"per_data_set": part})
    settings = segmentation_settings(part, METHODS["labels_alone"], optimisation=SHORT, network=network)
    inputs, outputs = paths(here, part, tmp_path)
    segmentation.run(settings, EXECUTION, inputs, outputs)
    trained, description = load_segmentation_model(outputs.model, "cpu")
    assert description["labelled"] == {name: list(rois) for name, rois in LABELLED.items()}
    assert trained(torch.zeros(1, 1, *settings.patches.shape)).shape == (1, len(ROIS), *settings.patches.shape)
    rows = read_history(outputs.history)
    assert all(0 < row["loss"]["total"] < 10 for row in rows)


def test_a_teacherless_training_has_an_empty_folder_of_snapshots_only_where_they_are_asked_for(
    trained, world, monkeypatch
):
    outputs = trained("labels_alone")
    assert not outputs.teachers.exists()
    folder = outputs.model.parents[2]
    monkeypatch.chdir(folder)
    settings = segmentation_settings("labels_alone", METHODS["labels_alone"], optimisation=SHORT)
    inputs, _ = paths(world, "labels_alone", folder)
    monkeypatch.setattr(segmentation, "train", None)
    for snapshots, found in (((0.5, 1.0), []), ((), None)):
        execution = EXECUTION.model_copy(update={"snapshots": snapshots})
        segmentation.run(settings, execution, inputs, outputs)
        assert (list(outputs.teachers.iterdir()) if outputs.teachers.exists() else None) == found


def labelling(**rois_of_cases):
    """A training case for each list of ROIs that a data set's cases label."""
    return [
        TrainingCase(dataset, str(place), Path(), np.isin(ROIS, labelled), np.zeros((1, 3), np.int64))
        for dataset, cases in rois_of_cases.items()
        for place, labelled in enumerate(cases)
    ]


@pytest.mark.parametrize("flips", [True, False])
def test_a_data_set_whose_crops_are_flipped_has_an_output_for_the_mirrored_roi(flips):
    augmentation = segmentation_settings().augmentation
    weak = augmentation.weak.model_copy(update={"flip_probability": (0.5 * flips, 0.5, 0.5)})
    settings = segmentation_settings(mirrors=MIRRORS, augmentation=augmentation.model_copy(update={"weak": weak}))
    cases = labelling(livers=[["liver", "liver_tumor"]] * 3, spleens=[["spleen"]] * 2)
    expected = {"livers": ROIS, "spleens": ("liver", "spleen")} if flips else LABELLED
    assert segmentation.rois_of_data_sets(settings, cases) == expected


def test_a_data_set_has_outputs_for_what_its_training_cases_label_together():
    """All of them declare all ROIs; nothing would train an output for the tumour."""
    settings = segmentation_settings(labelled=dict.fromkeys(LABELLED, ROIS))
    cases = labelling(livers=[["liver"], ["spleen"], []], spleens=[["spleen"], []])
    found = segmentation.rois_of_data_sets(settings, cases)
    assert found == {"livers": ("liver", "spleen"), "spleens": ("spleen",)}


def test_a_data_set_whose_cases_label_nothing_cannot_have_a_part_of_its_own():
    network = TINY["swin_unetr"].model_copy(update={"per_data_set": "head"})
    cases = labelling(livers=[["liver"]], spleens=[[], []])
    assert segmentation.rois_of_data_sets(segmentation_settings(), cases)["spleens"] == ()
    with pytest.raises(UserError, match="a part of its own for spleens, whose training cases label no ROI"):
        segmentation.rois_of_data_sets(segmentation_settings(network=network), cases)


@pytest.mark.parametrize(("axis", "exchanged"), [(0, True), (1, False), (2, False)])
def test_flips_along_x_exchange_the_rois_that_mirror_each_other(axis, exchanged, here, tmp_path):
    """As if liver and spleen were left and right: crops of spleens then label the liver."""
    still = segmentation_settings().augmentation
    flips = tuple(float(number == axis) for number in range(3))
    weak = still.weak.model_copy(update={"flip_probability": flips})
    settings = segmentation_settings(
        "mirrored",
        METHODS["labels_alone"],
        optimisation=SHORT,
        augmentation=still.model_copy(update={"weak": weak}),
        mirrors=MIRRORS,
    )
    inputs, _ = paths(here, "mirrored", tmp_path)
    cases = segmentation.training_cases(settings, inputs)
    with init_distributed(EXECUTION) as distributed:
        reader = segmentation.training_data(settings, cases, distributed).reader
    for sample in range(5):
        labelled = cases[reader.plan.crop(sample).case].labelled
        expected = labelled[[ROIS.index(MIRRORS.get(roi, roi)) for roi in ROIS]] if exchanged else labelled
        assert reader.read(sample).labelled.tolist() == expected.tolist()


def test_the_model_file_says_which_rois_mirror_each_other(here, tmp_path):
    settings = segmentation_settings("mirrored", METHODS["labels_alone"], optimisation=SHORT, mirrors=MIRRORS)
    inputs, outputs = paths(here, "mirrored", tmp_path)
    with init_distributed(EXECUTION) as distributed:
        task = segmentation.segmentation_task(settings, EXECUTION, inputs, LABELLED, distributed)
        segmentation.save(settings, task, LABELLED, outputs)
    assert load_segmentation_model(outputs.model, "cpu")[1]["mirrors"] == MIRRORS


def test_the_history_counts_what_each_roi_was(trained):
    for row in read_history(trained("latent_class").history):
        for roi in ROIS:
            parts = [row[group][roi] for group in ("labelled", "positive", "negative", "ambiguous")]
            assert sum(parts) == pytest.approx(1)
        assert row["labelled"]["liver"] + row["labelled"]["spleen"] == pytest.approx(1)
        assert row["seconds_per_step"] > row["seconds_waiting"] >= 0
        assert row["peak_memory_mib"] > 0
        assert row["samples_per_second"] > 0


def test_online_existence_scores_the_weak_view(here, tmp_path):
    settings = segmentation_settings(
        "online",
        LATENT_CLASS.model_copy(update={"decision": DecisionRule(positive_above=0.999, negative_below=0.99)}),
        optimisation=SHORT,
        existence=Existence(mode="online"),
    )
    inputs, outputs = paths(here, "online", tmp_path)
    no_tables = tuple(here.existence(dataset) for dataset in CASES)
    segmentation.run(settings, EXECUTION, replace(inputs, existence=no_tables), outputs)
    unlabelled = read_history(outputs.history)[0]
    assert unlabelled["negative"]["liver"] == pytest.approx(1 - unlabelled["labelled"]["liver"])
    with pytest.raises(UserError, match=r"existence\.mode: is online, which needs the ROI-aware network"):
        segmentation.run(settings, EXECUTION, replace(inputs, roi_aware_model=None), outputs)


PLAIN = tuple(f"plain_{number}" for number in range(8))


@pytest.fixture(scope="module")
def plain_cases(world, scored_pools, tmp_path_factory):
    """The inputs of a training that has eight CTs without labels too, in volumes with scored pools."""
    folder = tmp_path_factory.mktemp("plain")
    listed = write_dataset(folder / "volumes", "plain", PLAIN, ROIS, ())
    scored = (
        existence.Inputs(listed, world.roi_aware / "model.safetensors"),
        existence.Outputs(folder / "plain.parquet"),
    )
    plain = existence_settings("livers").model_copy(update={"dataset": "plain", "cases": PLAIN})
    existence.run(plain, EXECUTION, *scored)
    inputs, _ = world.segmentation_paths("plain")
    return replace(inputs, cases=(*inputs.cases, listed), existence=(*inputs.existence, scored[1].scores))


def with_plain(share, sampling="uniform_case", cases=PLAIN):
    method = LATENT_CLASS.model_copy(update={"unlabelled_share": share, "sampling": sampling})
    cases, labelled = {**CASES, "plain": cases}, {**LABELLED, "plain": ()}
    return segmentation_settings("plain", method, optimisation=SHORT, cases=cases, labelled=labelled)


def test_ct_without_labels_take_turns_beside_all_labelled_ones(here, plain_cases, tmp_path, capsys):
    """Five labelled cases and, at a share of 3/8, three of eight without: four steps of two in an epoch."""
    _, outputs = paths(here, "plain", tmp_path)
    segmentation.run(with_plain(0.375), EXECUTION, plain_cases, outputs)
    rows = read_history(outputs.history)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["epoch"] == 1
    labelled = [row["labelled"]["liver"] + row["labelled"]["spleen"] for row in rows]
    assert sum(labelled) / 4 == pytest.approx(5 / 8)
    said = capsys.readouterr().err
    assert "train plain: an epoch is 5 labelled cases and 3 of 8 without labels, which take turns" in said
    assert load_segmentation_model(outputs.model, "cpu")[1]["labelled"]["plain"] == []


def test_a_share_is_part_of_a_training_only_where_it_limits_the_crops(here, plain_cases, tmp_path):
    """Five cases have labels, eight have none: there is room for all from a share of 8/13 on."""
    unlimited, five, four = (identity_of(with_plain(share), plain_cases) for share in (1.0, 0.5, 0.45))
    assert len({unlimited, five, four}) == 3
    assert identity_of(with_plain(0.7), plain_cases) == unlimited
    assert identity_of(with_plain(0.51), plain_cases) == five, "five of them in an epoch, too"
    # Without such cases the key changes nothing, and a training has the fingerprint that it had before there was one.
    inputs, _ = paths(here, "latent_class", tmp_path)
    usual = segmentation_settings()
    fewest = usual.model_copy(update={"method": LATENT_CLASS.model_copy(update={"unlabelled_share": 0.1})})
    assert identity_of(fewest, inputs) == identity_of(usual, inputs)
    for settings, read in ((fewest, inputs), (with_plain(1.0), plain_cases)):
        parts = segmentation.training_identity(settings, segmentation.training_cases(settings, read), read).parts
        assert "unlabelled_share" not in parts["method"]
        assert "cases without labels" not in parts


def test_a_share_is_part_of_a_training_that_draws_with_replacement_where_it_lowers_probabilities(here, plain_cases):
    def drawn(share):
        return identity_of(with_plain(share, "uniform_dataset"), plain_cases)

    # One of three data sets has no labels.
    assert len({drawn(share) for share in (1.0, 0.5, 0.3, 0.29)}) == 4
    assert drawn(0.5) == drawn(0.51), "above a third only the epoch is shorter, by as much"


def test_a_method_that_learns_from_labels_alone_has_no_share_of_cases_that_turn_out_to_have_none(
    here, plain_cases, tmp_path
):
    """Its data set says `labelled: present`, so that it was not known before the volumes were made."""

    def parts(method):
        settings = with_plain(0.5).model_copy(update={"method": method})
        cases = segmentation.training_cases(settings, plain_cases)
        return segmentation.training_identity(settings, cases, plain_cases).parts

    key, alone = "cases without labels", METHODS["labels_alone"]
    assert key not in parts(alone)
    start = tmp_path / "start.safetensors"
    start.write_bytes(b"a model")
    assert key in parts(alone.model_copy(update={"start_from": str(start)}))


def said_of(settings, inputs, capsys) -> str:
    """What the log says of the cases that a training learns from."""
    capsys.readouterr()
    cases = segmentation.training_cases(settings, inputs)
    segmentation.say_what_is_learned_from(settings, EXECUTION, cases, "train plain")
    return capsys.readouterr().err


def test_the_log_says_how_cases_without_labels_are_limited(here, plain_cases, capsys):
    said = said_of(with_plain(0.1, "uniform_dataset"), plain_cases, capsys)
    assert (
        "an epoch is 5 crops, drawn with replacement, of which the 8 cases without labels have at most their share "
        "(`unlabelled_share: 0.1`)"
    ) in said
    assert "turns" not in said
    # Two of seven cases have room in an epoch, but are a third of what is drawn.
    two = with_plain(0.3, "uniform_dataset", PLAIN[:2])
    assert "an epoch is 7 crops, drawn with replacement, of which the 2 cases" in said_of(two, plain_cases, capsys)
    assert "5 labelled cases: the share leaves no room for those" in said_of(with_plain(0.1), plain_cases, capsys)
    for unlimited in (with_plain(0.7), with_plain(1.0, "uniform_dataset")):
        assert said_of(unlimited, plain_cases, capsys) == ""


def test_cases_that_are_left_out_are_said_once(here, tmp_path, capsys, monkeypatch):
    inputs, outputs = paths(here, "labels_alone", tmp_path)
    settings = segmentation_settings("labels_alone", METHODS["labels_alone"], optimisation=SHORT)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(segmentation, "train", stopped)
    for left_out, said in ((8, 1), (0, 0)):
        with pytest.raises(KeyboardInterrupt):
            segmentation.run(settings, EXECUTION.model_copy(update={"left_out": left_out}), inputs, outputs)
        line = "train labels_alone: leaves out 8 cases without labels: labels_alone learns from labels alone"
        assert capsys.readouterr().err.count(line) == said


def identity_of(settings, inputs) -> str:
    return segmentation.training_identity(settings, segmentation.training_cases(settings, inputs), inputs).fingerprint


def test_without_a_decision_rule_existence_scores_are_no_part_of_a_training(here, tmp_path):
    inputs, _ = paths(here, "lacuna", tmp_path)
    uses, ignores = (segmentation_settings("lacuna", METHODS[name]) for name in ("lacuna", "lacuna_without_scores"))
    assert all(case.scores is not None for case in segmentation.training_cases(uses, inputs))
    assert all(case.scores is None for case in segmentation.training_cases(ignores, inputs))
    without = replace(inputs, roi_aware_model=None)
    assert identity_of(ignores, inputs) == identity_of(ignores, without) != identity_of(uses, inputs)


def test_another_config_or_other_data_is_another_training(here, tmp_path, monkeypatch):
    settings = segmentation_settings()
    inputs, _ = paths(here, "latent_class", tmp_path)
    changed = [
        settings.model_copy(update={"seed": 1}),
        settings.model_copy(update={"optimisation": settings.optimisation.model_copy(update={"epochs": 3})}),
        settings.model_copy(update={"method": METHODS["labels_alone"]}),
        settings.model_copy(update={"cases": {**CASES, "livers": CASES["livers"][:2]}}),
        settings.model_copy(update={"mirrors": MIRRORS}),
    ]
    found = {identity_of(each, inputs) for each in (settings, *changed)}
    without_tumours = write_dataset(tmp_path / "volumes", "livers", CASES["livers"], ROIS, ("liver",))
    found.add(identity_of(settings, replace(inputs, cases=(without_tumours, *inputs.cases[1:]))))
    other_vectors = tmp_path / "other.safetensors"
    write_embeddings(other_vectors, np.ones((len(ROIS), 16), np.float32), ROIS, ROIS, "{}", "")
    found.add(identity_of(settings, replace(inputs, embeddings=other_vectors)))
    found.add(
        identity_of(
            settings, replace(inputs, existence=(rescored(inputs.existence[0], tmp_path), *inputs.existence[1:]))
        )
    )
    assert len(found) == 9
    no_model = replace(inputs, roi_aware_model=None)
    assert identity_of(settings, no_model) == identity_of(settings, inputs)
    patient = settings.model_copy(update={"validation": Validation(fraction=0.2, max_time_share=1)})
    watched = settings.model_copy(update={"validation": Validation(fraction=0.2)})
    assert identity_of(patient, inputs) == identity_of(watched, inputs) != identity_of(settings, inputs)
    online = settings.model_copy(update={"existence": Existence(mode="online")})
    assert identity_of(online, no_model) != identity_of(online, inputs)
    found = identity_of(settings, inputs)
    monkeypatch.setattr(type(settings.method), "revision", 7)
    assert identity_of(settings, inputs) != found, "the method has learned something else since"


SWIN_UNETR = TINY["swin_unetr"]
NOT_READING = [TINY["conemos"], TINY["hermes"], TINY["uniseg_unet"]]
NOT_READING += [SWIN_UNETR.model_copy(update={"per_data_set": part}) for part in ("outputs", "head", "prompt")]
READING = [SWIN_UNETR, SWIN_UNETR.model_copy(update={"per_data_set": "network"})]


@pytest.mark.parametrize(
    ("network", "same"), [(network, True) for network in NOT_READING] + [(network, False) for network in READING]
)
def test_other_embeddings_are_another_training_only_where_the_network_reads_them(network, same, here, tmp_path):
    settings = segmentation_settings(method=METHODS["labels_alone"], network=network)
    inputs, _ = paths(here, "embeddings", tmp_path)
    identities = []
    for name, vectors in (("ones", np.ones), ("zeros", np.zeros)):
        other = tmp_path / f"{name}.safetensors"
        write_embeddings(other, vectors((len(ROIS), 16), np.float32), ROIS, ROIS, "{}", "")
        identities.append(identity_of(settings, replace(inputs, embeddings=other)))
    assert (identities[0] == identities[1]) == same
    wider = tmp_path / "wider.safetensors"
    write_embeddings(wider, np.ones((len(ROIS), 8), np.float32), ROIS, ROIS, "{}", "")
    assert identity_of(settings, replace(inputs, embeddings=wider)) not in identities, "no checkpoint of it would fit"


def rescored(table, folder):
    """The same pools with other existence scores."""
    other = pd.read_parquet(table)
    other["score_spleen"] = np.float32(1) - other["score_spleen"]
    other.to_parquet(folder / "rescored.parquet")
    return folder / "rescored.parquet"


def test_what_a_training_does_not_depend_on_leaves_it_the_same(here, tmp_path):
    """Test cases and their data sets, cases.csv itself, dates, the run's name, scores that the method does not use."""
    settings = segmentation_settings()
    inputs, _ = paths(here, "latent_class", tmp_path)
    first = identity_of(settings, inputs)
    assert identity_of(settings.model_copy(update={"run": "latent_class-seed0"}), inputs) == first
    remade = tmp_path / "volumes"
    shutil.copytree(here.cases("livers").parent, remade)
    with (remade / "cases.csv").open("a") as file:
        file.write("livers,a_test_case\n")
    assert identity_of(settings, replace(inputs, cases=(remade / "cases.csv", *inputs.cases[1:]))) == first
    with_test_set = settings.model_copy(
        update={"cases": {**CASES, "new": ()}, "labelled": {**LABELLED, "new": ("liver",)}}
    )
    more = replace(
        inputs, cases=(*inputs.cases, here.cases("livers")), existence=(*inputs.existence, inputs.existence[0])
    )
    assert identity_of(with_test_set, more) == first
    rewritten = tmp_path / "rewritten.parquet"
    pd.read_parquet(inputs.existence[0]).iloc[::-1].to_parquet(rewritten, compression="gzip")
    assert identity_of(settings, replace(inputs, existence=(rewritten, *inputs.existence[1:]))) == first
    baseline = segmentation_settings("labels_alone", METHODS["labels_alone"])
    other_scores = replace(inputs, existence=(rescored(inputs.existence[0], tmp_path), *inputs.existence[1:]))
    assert identity_of(baseline, other_scores) == identity_of(baseline, inputs)


def test_a_finished_training_is_restored_without_a_step(here, tmp_path, monkeypatch, capsys):
    """Its outputs vanished, a test set was added and the run renamed: the files come back byte by byte."""
    settings = segmentation_settings(optimisation=SHORT)
    inputs, outputs = paths(here, "latent_class", tmp_path)
    segmentation.run(settings, EXECUTION, inputs, outputs)
    content = {path: path.read_bytes() for path in (outputs.model, outputs.history)}
    assert "training starts or resumes (none is kept in models/train)" in capsys.readouterr().err
    assert [stat.S_IMODE(path.stat().st_mode) for path in content] == [0o666 & ~UMASK] * 2
    for path in content:
        path.unlink()
    monkeypatch.setattr(segmentation, "train", lambda *_, **__: pytest.fail("it trains again"))
    with_test_set = settings.model_copy(update={"run": "latent_class-seed0", "cases": {**CASES, "new": ()}})
    more = replace(
        inputs, cases=(*inputs.cases, here.cases("livers")), existence=(*inputs.existence, inputs.existence[0])
    )
    with_test_set = with_test_set.model_copy(update={"labelled": {**LABELLED, "new": ("liver",)}})
    segmentation.run(with_test_set, EXECUTION, more, outputs)
    assert {path: path.read_bytes() for path in content} == content
    assert "train latent_class-seed0: already trained; restored from models/train/" in capsys.readouterr().err


def test_a_training_that_cannot_be_kept_keeps_its_last_checkpoint(here, tmp_path, monkeypatch, capsys):
    """Snakemake deletes the outputs before it runs the job again, which then has nothing left to learn."""
    settings = segmentation_settings(optimisation=SHORT)
    inputs, outputs = paths(here, "latent_class", tmp_path)
    (tmp_path / "models").write_text("in the way")
    segmentation.run(settings, EXECUTION, inputs, outputs)
    assert "latent_class is not kept in models/train/" in capsys.readouterr().err
    expected = weights(outputs)
    outputs.model.unlink()
    (tmp_path / "models").unlink()
    monkeypatch.setattr(Stepper, "train_step", lambda *_: pytest.fail("it trains again"))
    segmentation.run(settings, EXECUTION, inputs, outputs)
    assert all(torch.equal(expected[key], value) for key, value in weights(outputs).items())
    assert list((tmp_path / "models").glob("train/*/model.safetensors"))
    assert not list((tmp_path / "work").glob("train/*"))


def test_after_an_edit_it_waits_for_the_training_that_still_writes_its_outputs(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folder_lock, "_SECONDS_BETWEEN_TRIES", 0.05)
    settings = segmentation_settings(optimisation=SHORT)
    inputs, outputs = paths(here, "latent_class", tmp_path)
    fork = multiprocessing.get_context("fork")
    ready, waits = fork.Event(), fork.Event()
    monkeypatch.setattr(folder_lock, "say", lambda text: (waits.set(), say(text)))

    def orphan() -> None:
        with locked_folder(tmp_path / "work/train" / settings.run, Distributed(0, 1, torch.device("cpu")), "orphan"):
            ready.set()
            assert waits.wait(60)

    process = fork.Process(target=orphan)
    process.start()
    assert ready.wait(30)
    segmentation.run(settings, EXECUTION, inputs, outputs)
    process.join()
    assert f"train latent_class: waiting for process {process.pid} on " in capsys.readouterr().err
    assert outputs.model.exists()


HELD_OUT = {
    "cases": {"livers": CASES["livers"][:2], "spleens": CASES["spleens"][:1]},
    "held_out": {"livers": CASES["livers"][2:], "spleens": CASES["spleens"][1:]},
    "validation": Validation(fraction=0.3, every_epochs=1),
}


@pytest.mark.parametrize("name", ["latent_class", "leaf_dice", "conemos", "hermes"])
def test_held_out_cases_are_scored_and_the_networks_learn_the_same_as_without_them(name, here, tmp_path, monkeypatch):
    found = []
    for how, changes in (("watched", HELD_OUT), ("alone", {"cases": HELD_OUT["cases"]})):
        (tmp_path / how).mkdir()
        monkeypatch.chdir(tmp_path / how)
        optimisation = Optimisation(epochs=2, batch_size=2, learning_rate=1e-3)
        settings = segmentation_settings(name, METHODS[name], optimisation=optimisation, **changes)
        inputs, outputs = paths(here, name, tmp_path / how)
        segmentation.run(settings, EXECUTION, inputs, outputs)
        found.append((weights(outputs), read_history(outputs.history)))
    (watched, rows), (alone, _) = found
    assert all(torch.equal(value, alone[key]) for key, value in watched.items())
    assert [row["step"] for row in rows if "seconds_validating" in row] == [2, 3]
    labelled = [{*row["validation_dice"]} for row in rows if "validation_dice" in row]
    assert len(labelled) == 2 and all(labelled)
    assert ("teacher_validation_dice" in rows[1]) == METHODS[name].needs_teacher


def test_validation_is_part_of_what_a_training_is_only_where_cases_are_held_out(here, tmp_path):
    inputs, _ = paths(here, "latent_class", tmp_path)
    watched = segmentation_settings(**HELD_OUT)
    best = watched.model_copy(update={"validation": Validation(fraction=0.3, every_epochs=1, keep="best")})
    others = watched.model_copy(update={"held_out": {"livers": CASES["livers"][2:]}})
    without = segmentation_settings(cases=HELD_OUT["cases"])
    assert len({identity_of(each, inputs) for each in (watched, best, others, without)}) == 4
    identity = segmentation.training_identity(without, segmentation.training_cases(without, inputs), inputs)
    assert not {"validation", "held_out", "held-out cases"} & identity.parts.keys()


def test_killed_or_stopped_it_ends_with_the_same_weights(here, tmp_path):
    settings = segmentation_settings(optimisation=Optimisation(epochs=3, batch_size=2, learning_rate=1e-3))
    how = TrainingExecution(device="cpu", precision="float32", num_workers=1, checkpoint_minutes=1e-9)

    def run(folder, strike_at=None):
        """Train in `folder`; the process kills itself where checkpoint number `strike_at` would be written."""
        calls = 0

        def save(self, step, state):
            nonlocal calls
            calls += 1
            if calls == strike_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, step, state)

        original, Checkpoints.save = Checkpoints.save, save
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        segmentation.run(settings, how, *paths(here, "latent_class", folder))

    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert in_processes(run, undisturbed) == [0]
    assert in_processes(run, disturbed, 3) == [-signal.SIGKILL]
    assert not (disturbed / "results" / "latent_class").exists()

    arguments = stage_arguments("train", settings, how, *paths(here, "latent_class", disturbed))
    torchrun = start_stage(arguments, disturbed, processes=1)
    said = ""
    while "resuming after step 2" not in said:
        line = torchrun.stderr.readline()
        assert line, said
        said += line
    torchrun.send_signal(signal.SIGTERM)
    _, rest = torchrun.communicate(timeout=120)
    assert torchrun.returncode != 0
    assert "latent_class: stopped as requested after step" in rest

    assert in_processes(run, disturbed) == [0]
    for which in ("student", "teacher"):
        expected = weights(paths(here, "latent_class", undisturbed)[1], which)
        for name, value in weights(paths(here, "latent_class", disturbed)[1], which).items():
            assert torch.equal(expected[name], value), (which, name)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        *(pytest.param(METHODS[name], f"is {name}, which mixes samples", id=name) for name in ("ltuda_cda", "ltuda")),
        pytest.param(
            METHODS["labels_alone"].model_copy(update={"supervised": SupervisedLoss(dice="batch")}),
            "dice: is batch",
            id="Dice over the batch",
        ),
    ],
)
def test_a_method_whose_samples_must_be_computed_together_is_refused_where_they_are_not(method, wrong):
    alone, shared = (Distributed(0, count, torch.device("cpu")) for count in (1, 2))
    segmentation.check_samples_together(method, 1, alone)
    segmentation.check_samples_together(METHODS["mean_teacher"], 2, shared)
    with pytest.raises(UserError, match=f"{wrong}.* how many processes"):
        segmentation.check_samples_together(method, 1, shared)
    with pytest.raises(UserError, match=f"{wrong}.*gradient_accumulation_steps"):
        segmentation.check_samples_together(method, 2, alone)


def one_sample_at_a_time(monkeypatch, most=1):
    """Let memory last for `most` samples in a training network."""

    def forward(self, images):
        if torch.is_grad_enabled() and len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return original(self, images)

    original = TextConditionedSwinUnetr.forward
    monkeypatch.setattr(TextConditionedSwinUnetr, "forward", forward)


def test_a_batch_too_large_for_the_memory_ends_as_if_it_were_divided_from_the_start(here, tmp_path, monkeypatch, capfd):
    settings = segmentation_settings(optimisation=SHORT)
    told = EXECUTION.model_copy(update={"gradient_accumulation_steps": 2})
    one_sample_at_a_time(monkeypatch)
    outputs = {}
    for name, execution in {"auto": EXECUTION, "told": told}.items():
        (tmp_path / name).mkdir()
        # Elsewhere, or the model would be restored from models/.
        monkeypatch.chdir(tmp_path / name)
        inputs, outputs[name] = paths(here, "latent_class", tmp_path / name)
        segmentation.run(settings, execution, inputs, outputs[name])
        said = capfd.readouterr().err
        assert ("takes gradient_accumulation_steps 1, gradient_checkpointing none: " in said) == (name == "auto")
        assert ("step 0: out of memory with gradient_accumulation_steps 1; 2 " in said) == (name == "auto")
    for which in ("student", "teacher"):
        expected = weights(outputs["told"], which)
        assert all(torch.equal(expected[key], value) for key, value in weights(outputs["auto"], which).items())
    # The sizes are no part of what a training is.
    outputs["told"].model.unlink()
    segmentation.run(settings, EXECUTION, inputs, outputs["told"])
    assert "restored" in capfd.readouterr().err
    assert outputs["told"].model.exists()


def test_a_method_that_needs_the_whole_batch_is_not_divided(here, tmp_path, monkeypatch):
    one_sample_at_a_time(monkeypatch)
    with pytest.raises(UserError, match=r"out of memory; set execution\.gradient_checkpointing to all, or lower"):
        settings = segmentation_settings("ltuda_cda", METHODS["ltuda_cda"], optimisation=SHORT)
        segmentation.run(settings, EXECUTION, *paths(here, "ltuda_cda", tmp_path))


def test_torchrun_starts_processes_that_share_the_batch(here, tmp_path, monkeypatch):
    (tmp_path / "alone").mkdir()
    settings = segmentation_settings(optimisation=SHORT)
    execution = TrainingExecution(device="cpu", precision="float32", num_workers=0)
    shared, alone = (paths(here, "latent_class", tmp_path / name) for name in ("shared", "alone"))
    torchrun = start_stage(stage_arguments("train", settings, execution, *shared), tmp_path, processes=2)
    _, said = torchrun.communicate(timeout=240)
    assert torchrun.returncode == 0, said
    # Elsewhere, or the model would be restored from models/.
    monkeypatch.chdir(tmp_path / "alone")
    segmentation.run(settings, execution, *alone)
    row, *rest = read_history(shared[1].history)
    assert [row["step"] for row in rest] == [2, 3]
    # The first step only: from then on Adam makes steps of mere rounding too, such as that of the keys' biases.
    assert row["loss"] == pytest.approx(read_history(alone[1].history)[0]["loss"], abs=1e-5)
