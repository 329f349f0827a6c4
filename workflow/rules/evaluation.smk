# Requires: results/segmentation/RUN/, results/volumes/DATASET/cases.csv; for scores the raw labels or the full truth.
# Makes: results/predictions/RUN/DATASET/, results/scores/RUN.csv, results/report/


rule predict:
    """Segment the test cases of one data set, each on its original grid."""
    input:
        cases="results/volumes/{dataset}/cases.csv",
        model="results/segmentation/{run}/model.safetensors",
    output:
        predictions=directory("results/predictions/{run}/{dataset}"),
    log:
        "logs/inference/{run}/{dataset}.log",
    benchmark:
        "results/benchmarks/inference/{run}/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=min(visible_gpus(), 1),
    params:
        settings=settings_of("inference", "run", "dataset"),
        version=VERSIONS["inference"],
    shell:
        "exec python -m pipeline_lib.stages.predict.run"
        " --settings {params.settings:q}"
        " --cases {input.cases:q}"
        " --model {input.model:q}"
        " --predictions {output.predictions:q}"
        " --log {log:q}"


rule score:
    """Hold every prediction of one run against the truth."""
    input:
        predictions=lambda wildcards: expand(
            "results/predictions/{run}/{dataset}", run=wildcards.run, dataset=TESTED
        ),
        truth=truth_of(TESTED),
        code=code_of("stages/score/*.py", "scoring/*.py"),
    output:
        scores="results/scores/{run}.csv",
    log:
        "logs/scores/{run}.log",
    benchmark:
        "results/benchmarks/scores/{run}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
    params:
        settings=settings_of("scores", "run"),
    shell:
        "exec python -m pipeline_lib.stages.score.run"
        " --settings {params.settings:q}"
        " --predictions {input.predictions:q}"
        " --truth {input.truth:q}"
        " --scores {output.scores:q}"
        " --log {log:q}"


rule write_report:
    """Tables, figures and one page that opens offline."""
    input:
        scores=expand("results/scores/{run}.csv", run=RUNS),
        histories=expand("results/segmentation/{run}/history.jsonl", run=RUNS),
        roi_aware_metrics=only_with_existence("results/roi_aware/metrics.json"),
        existence=expand("results/existence/{dataset}.parquet", dataset=PARTIAL),
        existence_check=only_if_made(EXISTENCE_CHECK),
        cases=expand(
            "results/volumes/{dataset}/cases.csv", dataset=(*PHANTOM, *PUBLISHED)
        ),
        predictions=expand(
            "results/predictions/{run}/{dataset}", run=RUNS, dataset=TESTED
        ),
        truth=truth_of(TESTED),
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
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
    params:
        settings=settings_of("report"),
        benchmarks="results/benchmarks",
        config=[Path(file).name for file in workflow.configfiles],
    shell:
        "exec python -m pipeline_lib.stages.write_report.run"
        " --settings {params.settings:q}"
        " --scores {input.scores:q}"
        " --histories {input.histories:q}"
        " --roi-aware-metrics {input.roi_aware_metrics:q}"
        " --existence {input.existence:q}"
        " --existence-check {input.existence_check:q}"
        " --cases {input.cases:q}"
        " --predictions {input.predictions:q}"
        " --truth {input.truth:q}"
        " --benchmarks {params.benchmarks:q}"
        " --config {params.config:q}"
        " --folder {output.folder:q}"
        " --log {log:q}"
