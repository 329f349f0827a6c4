# Requires: the rules of all stages.
# Makes: named targets, one for each kind of artifact: `snakemake TARGET --cores all` brings it up to date with all that
# it needs. `validate` is a target too, a rule of its own.

TARGETS = {
    "volumes": [
        *expand("results/volumes/{dataset}/cases.csv", dataset=(*PHANTOM, *PUBLISHED)),
        *expand(
            "resources/raw/{dataset}/deleted.json",
            dataset=() if LACUNA.storage.keep_raw_cases else PUBLISHED,
        ),
    ],
    "embeddings": expand(
        "results/embeddings/{encoder}.safetensors",
        encoder=sorted({encoder_of(run) for run in TRAININGS}),
    ),
    "roi_aware_network": only_with_existence(
        "results/roi_aware_network/model.safetensors"
    ),
    "existence": expand("results/existence/{dataset}.parquet", dataset=PARTIAL),
    "models": expand("results/models/{run}/model.safetensors", run=TRAININGS),
    "predictions": predictions_of((*RUNS, *OUT_OF_FOLD)),
    "scores": expand("results/scores/{run}.csv", run=(*RUNS, *OUT_OF_FOLD)),
    "report": ["results/report"],
}


localrules:
    raw_data,
    volumes,
    embeddings,
    roi_aware_network,
    existence,
    existence_check,
    pseudo_labels,
    models,
    predictions,
    scores,
    report,


rule raw_data:
    """All that needs a network: data sets and the weights of text encoders."""
    input:
        expand("resources/raw/{dataset}/manifest.json", dataset=(*PHANTOM, *PUBLISHED)),
        expand("resources/encoders/{encoder}", encoder=DOWNLOADED_ENCODERS),


rule volumes:
    """The resampled volumes of every case of every data set."""
    input:
        TARGETS["volumes"],


rule embeddings:
    """The ROI embeddings of every encoder that a compared method uses."""
    input:
        TARGETS["embeddings"],


rule roi_aware_network:
    """The ROI-aware network."""
    input:
        TARGETS["roi_aware_network"],


rule existence:
    """The patch pools and their existence scores."""
    input:
        TARGETS["existence"],


rule existence_check:
    """How the decisions about existence agree and how many are right; not part of `all`."""
    input:
        EXISTENCE_CHECK,


rule pseudo_labels:
    """How much of what the teachers of all methods teach is true; not part of `all`."""
    input:
        all_pseudo_labels,


rule models:
    """The trained network of every compared method."""
    input:
        TARGETS["models"],


rule predictions:
    """The predictions of every compared method on every test case, with `folds` on every training case too."""
    input:
        TARGETS["predictions"],


rule scores:
    """The scores of every compared method."""
    input:
        TARGETS["scores"],


rule report:
    """Tables, figures and the page."""
    input:
        TARGETS["report"],
