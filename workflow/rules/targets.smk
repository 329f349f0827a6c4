# Named targets, one per stage: `snakemake --cores all TARGET` brings it up to date with all that it needs.


localrules:
    all,
    acquire,
    volumes,
    text,
    roi_aware,
    existence,
    segmentation,
    inference,
    scores,
    report,


rule all:
    """Everything, up to the report."""
    default_target: True
    input:
        rules.write_report.output,


rule acquire:
    """All that needs a network: data sets and the weights of text encoders."""
    input:
        expand("resources/raw/{dataset}/manifest.json", dataset=(*PHANTOM, *PUBLISHED)),
        expand("resources/encoders/{encoder}", encoder=DOWNLOADED_ENCODERS),


rule volumes:
    """The resampled volumes of every case of every data set."""
    input:
        expand("results/volumes/{dataset}/cases.csv", dataset=(*PHANTOM, *PUBLISHED)),


rule text:
    """The ROI embeddings of every encoder that a compared method uses."""
    input:
        expand(
            "results/text/{encoder}.safetensors",
            encoder=sorted({encoder_of(run) for run in RUNS}),
        ),


rule roi_aware:
    """The ROI-aware network."""
    input:
        only_with_existence(*rules.train_roi_aware.output),


rule existence:
    """The patch pools and their existence scores."""
    input:
        expand("results/existence/{dataset}.parquet", dataset=PARTIAL),


rule segmentation:
    """The trained network of every compared method."""
    input:
        expand("results/segmentation/{run}/model.safetensors", run=RUNS),


rule inference:
    """The predictions of every compared method on every test case."""
    input:
        expand("results/predictions/{run}/{dataset}", run=RUNS, dataset=TESTED),


rule scores:
    """The scores of every compared method."""
    input:
        expand("results/scores/{run}.csv", run=RUNS),


rule report:
    """Tables, figures and the page."""
    input:
        rules.write_report.output,
