# Requires: results/volumes/DATASET/cases.csv, results/roi_aware/
# Makes: results/existence/DATASET.parquet


rule score_existence:
    """Draw the patch pool of each training case and score each patch with the frozen ROI-aware network."""
    input:
        cases="results/volumes/{dataset}/cases.csv",
        model=only_with_existence("results/roi_aware/model.safetensors"),
        metrics=only_with_existence("results/roi_aware/metrics.json"),
    output:
        scores="results/existence/{dataset}.parquet",
    log:
        "logs/existence/{dataset}.log",
    benchmark:
        "results/benchmarks/existence/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=min(visible_gpus(), 1),
    params:
        settings=settings_of("existence", "dataset"),
        version=VERSIONS["existence"],
    shell:
        "exec python -m pipeline_lib.stages.existence"
        " --settings {params.settings:q}"
        " --cases {input.cases:q}"
        " --model {input.model:q}"
        " --metrics {input.metrics:q}"
        " --scores {output.scores:q}"
        " --log {log:q}"
