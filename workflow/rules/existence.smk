# Requires: results/volumes/DATASET/cases.csv, results/roi_aware_network/; for the check also resources/truth/ of phantoms.
# Makes: results/existence/DATASET.parquet, results/existence_check/.


rule score_existence:
    """Draw the patch pool of each training case and score each patch with the frozen ROI-aware network."""
    input:
        cases="results/volumes/{dataset}/cases.csv",
        model=only_with_existence("results/roi_aware_network/model.safetensors"),
    output:
        scores="results/existence/{dataset}.parquet",
    log:
        "logs/score_existence/{dataset}.log",
    benchmark:
        "results/benchmarks/score_existence/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=gpus_of(LACUNA.roi_aware.execution),
    params:
        settings=settings_of("score_existence"),
        execution=execution_of("score_existence"),
        version=version_of("score_existence"),
    shell:
        shell_command("score_existence")


rule check_existence:
    """Compare the decisions about existence with each other and, where it is known, with the full truth.

    No training reads what this makes. It is not part of `all`; once made, the report shows it and keeps it up to date.
    """
    input:
        cases=expand("results/volumes/{dataset}/cases.csv", dataset=PARTIAL),
        existence=expand("results/existence/{dataset}.parquet", dataset=PARTIAL),
        model="results/roi_aware_network/model.safetensors",
        truth=expand(
            "resources/truth/{dataset}",
            dataset=[dataset for dataset in PARTIAL if dataset in PHANTOM],
        ),
        code=code_of(
            "stages/check_existence/*.py",
            "existence/agreement.py",
            "existence/check.py",
        ),
    output:
        agreement="results/existence_check/agreement.csv",
        decisions="results/existence_check/decisions.csv",
    log:
        "logs/check_existence.log",
    benchmark:
        "results/benchmarks/check_existence.tsv"
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=gpus_of(LACUNA.roi_aware.execution),
    params:
        settings=settings_of("check_existence"),
        execution=execution_of("check_existence"),
    shell:
        shell_command("check_existence")
