# Requires: results/volumes/FULLY_LABELLED/cases.csv
# Makes: results/roi_aware/ (model, metrics, history)


rule train_roi_aware:
    """Train the 3D ResNet-18 that says which structures a patch contains."""
    input:
        cases=only_with_existence(f"results/volumes/{FULLY_LABELLED}/cases.csv"),
    output:
        model="results/roi_aware/model.safetensors",
        metrics="results/roi_aware/metrics.json",
        history="results/roi_aware/history.jsonl",
    log:
        "logs/roi_aware.log",
    benchmark:
        "results/benchmarks/roi_aware.tsv"
    conda:
        "../../environment.yml"
    threads: all_cores()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=min(visible_gpus(), 1),
    params:
        settings=settings_of("roi_aware"),
        execution=execution_of("roi_aware"),
        version=VERSIONS["roi_aware"],
    shell:
        "exec python -m pipeline_lib.stages.train_roi_aware.run"
        " --settings {params.settings:q}"
        " --execution {params.execution:q}"
        " --cases {input.cases:q}"
        " --model {output.model:q}"
        " --metrics {output.metrics:q}"
        " --history {output.history:q}"
        " --log {log:q}"
