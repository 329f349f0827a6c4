"""Versions of the stages that are not rerun after every edit of their code: they cost much, or trainings hang on them.

Raise a number when the stage's results change: Snakemake then reruns it, and only then.
"""

VERSIONS = {
    "acquire": 1,
    "volumes": 2,
    "case_list": 1,
    "text": 1,
    "roi_aware": 2,
    "existence": 1,
    "segmentation": 2,
    "inference": 2,
}
