# Named targets, one per stage: `snakemake --cores all TARGET` brings it up to date with all that it needs.

TARGETS = {
    "volumes": [
        *expand("results/volumes/{dataset}/cases.csv", dataset=(*PHANTOM, *PUBLISHED)),
        *expand(
            "resources/raw/{dataset}/deleted.json",
            dataset=() if LACUNA.storage.keep_raw_cases else PUBLISHED,
        ),
    ],
    "text": expand(
        "results/text/{encoder}.safetensors",
        encoder=sorted({encoder_of(run) for run in RUNS}),
    ),
    "roi_aware": only_with_existence("results/roi_aware/model.safetensors"),
    "existence": expand("results/existence/{dataset}.parquet", dataset=PARTIAL),
    "segmentation": expand("results/segmentation/{run}/model.safetensors", run=RUNS),
    "inference": expand(
        "results/predictions/{run}/{dataset}", run=RUNS, dataset=TESTED
    ),
    "scores": expand("results/scores/{run}.csv", run=RUNS),
    "report": ["results/report"],
}


localrules:
    acquire,
    volumes,
    text,
    roi_aware,
    existence,
    existence_check,
    segmentation,
    inference,
    scores,
    report,


rule acquire:
    """All that needs a network: data sets and the weights of text encoders."""
    input:
        expand("resources/raw/{dataset}/manifest.json", dataset=(*PHANTOM, *PUBLISHED)),
        expand("resources/encoders/{encoder}", encoder=DOWNLOADED_ENCODERS),


rule volumes:
    """The resampled volumes of every case of every data set."""
    input:
        TARGETS["volumes"],


rule text:
    """The ROI embeddings of every encoder that a compared method uses."""
    input:
        TARGETS["text"],


rule roi_aware:
    """The ROI-aware network."""
    input:
        TARGETS["roi_aware"],


rule existence:
    """The patch pools and their existence scores."""
    input:
        TARGETS["existence"],


rule existence_check:
    """How the decisions about existence agree and how many are right; not part of `all`."""
    input:
        EXISTENCE_CHECK,


rule segmentation:
    """The trained network of every compared method."""
    input:
        TARGETS["segmentation"],


rule inference:
    """The predictions of every compared method on every test case."""
    input:
        TARGETS["inference"],


rule scores:
    """The scores of every compared method."""
    input:
        TARGETS["scores"],


rule report:
    """Tables, figures and the page."""
    input:
        TARGETS["report"],
