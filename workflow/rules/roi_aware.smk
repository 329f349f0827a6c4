# Requires: results/volumes/FULLY_LABELLED/cases.csv
# Makes: results/roi_aware_network/ (model, metrics, history)


rule train_roi_aware:
    """Train the 3D ResNet-18 that says which structures a patch contains."""
    input:
        cases=only_with_existence(f"results/volumes/{FULLY_LABELLED}/cases.csv"),
    output:
        model="results/roi_aware_network/model.safetensors",
        metrics="results/roi_aware_network/metrics.json",
        history="results/roi_aware_network/history.jsonl",
    log:
        "logs/train_roi_aware.log",
    benchmark:
        "results/benchmarks/train_roi_aware.tsv"
    conda:
        "../../environment.yml"
    threads: all_cores()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=gpus_of(LACUNA.roi_aware.execution),
    params:
        settings=settings_of("train_roi_aware"),
        execution=execution_of("train_roi_aware"),
        version=version_of("train_roi_aware"),
    shell:
        shell_command("train_roi_aware")
