# Requires: results/models/TRAINING/, results/volumes/DATASET/cases.csv; for scores the raw labels or the full truth.
# Makes: results/predictions/RUN/DATASET/, results/scores/RUN.csv, results/confusion/RUN.csv, results/report/


rule predict:
    """Segment the test cases of one data set, or those that a fold holds out, each on its original grid."""
    input:
        cases="results/volumes/{dataset}/cases.csv",
        model=lambda wildcards: models_of(wildcards.run),
    output:
        predictions=directory("results/predictions/{run}/{dataset}"),
    log:
        "logs/predict/{run}/{dataset}.log",
    benchmark:
        "results/benchmarks/predict/{run}/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        # An average holds all its networks at once.
        mem_mb=lambda wildcards, attempt: (
            attempt
            * (training_memory_mb() + 1000 * (len(models_of(wildcards.run)) - 1))
        ),
        gpu=gpus_of(LACUNA.inference),
    params:
        settings=settings_of("predict"),
        execution=execution_of("predict"),
        version=version_of("predict"),
    shell:
        shell_command("predict")


rule score:
    """Compare every prediction of one run with the truth."""
    input:
        predictions=lambda wildcards: predictions_of([wildcards.run]),
        truth=lambda wildcards: truth_of(predicted_by(wildcards.run)),
        code=code_of("stages/score/*.py", "scoring/*.py"),
    output:
        scores="results/scores/{run}.csv",
        confusion="results/confusion/{run}.csv",
    log:
        "logs/score/{run}.log",
    benchmark:
        "results/benchmarks/score/{run}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
    params:
        settings=settings_of("score"),
    shell:
        shell_command("score")


rule write_report:
    """Tables, figures and one page that opens offline."""
    input:
        scores=expand("results/scores/{run}.csv", run=RUNS),
        confusion=expand("results/confusion/{run}.csv", run=SHOWN),
        out_of_fold=expand("results/scores/{run}.csv", run=OUT_OF_FOLD),
        histories=expand("results/models/{run}/history.jsonl", run=TRAININGS),
        roi_aware_metrics=only_with_existence("results/roi_aware_network/metrics.json"),
        existence=expand("results/existence/{dataset}.parquet", dataset=PARTIAL),
        existence_check=only_if_made(EXISTENCE_CHECK),
        pseudo_labels=files_that_exist(*PSEUDO_LABELS),
        cases=expand(
            "results/volumes/{dataset}/cases.csv", dataset=(*PHANTOM, *PUBLISHED)
        ),
        predictions=predictions_of(SHOWN),
        truth=truth_of(SCORED),
        code=code_of(
            "stages/write_report/*.py",
            "reporting/*.py",
            "reporting/*.csv",
            "reporting/templates/*",
        ),
    output:
        folder=report(
            directory("results/report"),
            patterns=["figures/{section}/{figure}.png"],
            caption="../report/figures.rst",
            category="{section}",
            labels={"figure": "{figure}"},
        ),
    log:
        "logs/write_report.log",
    benchmark:
        "results/benchmarks/write_report.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
    params:
        settings=settings_of("write_report"),
        benchmarks="results/benchmarks",
        config=[Path(file).name for file in workflow.configfiles],
    shell:
        shell_command("write_report", params=["benchmarks", "config"])
