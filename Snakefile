"""Lacuna: one segmentation network learned from many partially labelled CT data sets.

snakemake --cores all                                       the embedded phantom benchmark
snakemake --cores all --configfile config/mots.yaml         the paper's experiment
snakemake --cores all segmentation                          one stage, and what it needs
"""

import sys
from pathlib import Path


from pipeline_lib.config import settings
from pipeline_lib.config.schema import load_config
from pipeline_lib.tools.disk import check_disk
from pipeline_lib.errors import UserError
from pipeline_lib.machine import visible_gpus
from pipeline_lib.stages.versions import VERSIONS

BASE = Path(workflow.basedir)

# A config given on the command line stands alone: merged into the default, it would inherit phantom values.
if not workflow.config_settings.configfiles:

    configfile: BASE / "config/config.yaml"


try:
    LACUNA = load_config(config, BASE)
except UserError as error:
    sys.exit(f"error: {error}")


onstart:
    try:
        check_disk(LACUNA, Path.cwd())
    except UserError as error:
        sys.exit(f"error: {error}")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/volumes.smk"
include: "workflow/rules/text.smk"
include: "workflow/rules/roi_aware.smk"
include: "workflow/rules/existence.smk"
include: "workflow/rules/segmentation.smk"
include: "workflow/rules/evaluation.smk"


localrules:
    all,


rule all:
    """Everything: every stage's artifacts by name, so that one lost in the middle is remade too."""
    input:
        *TARGETS.values(),
