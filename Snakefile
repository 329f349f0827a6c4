"""Lacuna: one segmentation network learned from many partially labelled CT data sets.

snakemake --cores all                                       the embedded phantom benchmark
snakemake --cores all --configfile config/mots.yaml         the paper's experiment
snakemake models --cores all --configfile config/mots.yaml  one target, and what it needs

Name targets first: `--configfile` takes everything that follows it for another config.
"""

import atexit
import os
import shlex
import sys
from dataclasses import fields
from pathlib import Path

from snakemake.utils import min_version
from snakemake_interface_executor_plugins.settings import ExecMode

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.runs import members
from pipeline_lib.config.validation import cases_of_method
from pipeline_lib.errors import UserError
from pipeline_lib.machine import visible_gpus
from pipeline_lib.stages import settings
from pipeline_lib.stages.check_pseudo_labels.settings import (
    checked_trainings,
    why_none_is_checked,
)
from pipeline_lib.stages.command import flag_of
from pipeline_lib.stages.resample.lost import why_incomplete
from pipeline_lib.stages.resample.settings import batches_of
from pipeline_lib.stages.table import STAGES, has_execution, version_of
from pipeline_lib.tools.disk import check_disk
from pipeline_lib.tools.failures import failures
from pipeline_lib.tools.planned import PlannedTraining, retraining_notes
from pipeline_lib.tools.terminal import is_in_charge, take_over

min_version("9.27")

take_over(workflow)

BASE = Path(workflow.basedir)

# A config given on the command line stands alone: merged into the default, it would inherit phantom values.
CONFIG_FILES = [Path(file) for file in workflow.config_settings.configfiles or ()]
if not CONFIG_FILES:
    CONFIG_FILES = [BASE / "config/config.yaml"]

    configfile: CONFIG_FILES[0]


try:
    LACUNA = load_config(config, BASE, CONFIG_FILES)
except UserError as error:
    sys.exit(f"error: {error}")


onstart:
    try:
        check_disk(LACUNA, Path.cwd())
    except UserError as error:
        sys.exit(f"error: {error}")
    planned = (
        PlannedTraining(
            job.rule.name, Path(job.output.model), str(workflow.dag.reason(job))
        )
        for job in workflow.dag.needrun_jobs()
        if job.rule.name in ("train", "train_roi_aware")
    )
    for note in retraining_notes(planned):
        print(note, file=sys.stderr)


onerror:
    if not is_in_charge(workflow.logger_manager):
        # Last of all, below what Snakemake itself still has to say.
        atexit.register(print, *failures(map(Path, log)), sep="\n", file=sys.stderr)


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/old_names.smk"
include: "workflow/rules/volumes.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/roi_aware.smk"
include: "workflow/rules/existence.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/evaluation.smk"


localrules:
    all,


rule all:
    """Everything: every target by name, so that a file lost in the middle is remade too."""
    input:
        *TARGETS.values(),
