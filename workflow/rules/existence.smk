# Requires: results/volumes/DATASET/cases.csv, results/roi_aware/; for the check also resources/truth/ of phantoms
# Makes: results/existence/DATASET.parquet, results/existence_check/


rule score_existence:
    """Draw the patch pool of each training case and score each patch with the frozen ROI-aware network."""
    input:
        cases="results/volumes/{dataset}/cases.csv",
        model=only_with_existence("results/roi_aware/model.safetensors"),
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
        "exec python -m pipeline_lib.stages.score_existence.run"
        " --settings {params.settings:q}"
        " --cases {input.cases:q}"
        " --model {input.model:q}"
        " --scores {output.scores:q}"
        " --log {log:q}"


rule check_existence:
    """Compare the decisions about existence with each other and, where it is known, with the full truth.

    No training reads what this makes. It is not part of `all`; once made, the report shows it and keeps it up to date.
    """
    input:
        cases=expand("results/volumes/{dataset}/cases.csv", dataset=PARTIAL),
        existence=expand("results/existence/{dataset}.parquet", dataset=PARTIAL),
        model="results/roi_aware/model.safetensors",
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
        "logs/existence_check.log",
    benchmark:
        "results/benchmarks/existence_check.tsv"
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=min(visible_gpus(), 1),
    params:
        settings=settings_of("existence_check"),
    shell:
        "exec python -m pipeline_lib.stages.check_existence.run"
        " --settings {params.settings:q}"
        " --cases {input.cases:q}"
        " --existence {input.existence:q}"
        " --model {input.model:q}"
        " --truth {input.truth:q}"
        " --agreement {output.agreement:q}"
        " --decisions {output.decisions:q}"
        " --log {log:q}"
