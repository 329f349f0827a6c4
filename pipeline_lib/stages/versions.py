"""Versions of the stages whose results cost too much to be remade after every edit of their code.

Raise a number when the stage's results change: Snakemake then reruns it, and only then.
"""

VERSIONS = {
    "acquire": 1,
    "volumes": 1,
    "roi_aware": 1,
    "existence": 1,
    "segmentation": 1,
    "inference": 2,
}
