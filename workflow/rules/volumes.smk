# Requires: config `datasets`, `phantom`, `volumes`.
# Makes: resources/raw/DATASET/, resources/truth/DATASET/, results/validation.csv, results/volumes/DATASET/CASE/, results/volumes/DATASET/cases.csv,
# and with `storage.keep_raw_cases: false` resources/raw/DATASET/deleted.json instead of the raw cases.


localrules:
    acquire_published,
    delete_raw,


rule acquire_published:
    """Download a published data set, or point to the user's own copy of it."""
    output:
        manifest="resources/raw/{dataset}/manifest.json",
    log:
        "logs/acquire/{dataset}.log",
    benchmark:
        "results/benchmarks/acquire/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(PUBLISHED),
    retries: 3
    conda:
        "../../environment.yml"
    params:
        settings=settings_of("acquire", "dataset"),
        execution=execution_of("acquire", "dataset"),
    shell:
        "exec python -m pipeline_lib.stages.acquire.run"
        " --settings {params.settings:q}"
        " --execution {params.execution:q}"
        " --manifest {output.manifest:q}"
        " --log {log:q}"


rule generate_phantom:
    """Make a phantom data set in its published layout, and the truth of every ROI apart from it."""
    output:
        manifest="resources/raw/{dataset}/manifest.json",
        truth=directory("resources/truth/{dataset}"),
    log:
        "logs/acquire/{dataset}.log",
    benchmark:
        "results/benchmarks/acquire/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(PHANTOM),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
    params:
        settings=settings_of("acquire", "dataset"),
        execution=execution_of("acquire", "dataset"),
        version=VERSIONS["acquire"],
    shell:
        "exec python -m pipeline_lib.stages.acquire.run"
        " --settings {params.settings:q}"
        " --execution {params.execution:q}"
        " --manifest {output.manifest:q}"
        " --truth {output.truth:q}"
        " --log {log:q}"


rule validate:
    """Read every raw case and list all that is wrong with them; nothing else needs it."""
    input:
        manifests=expand(
            "resources/raw/{dataset}/manifest.json",
            dataset=[dataset.name for dataset in LACUNA.all_datasets],
        ),
    output:
        cases="results/validation.csv",
    log:
        "logs/validate.log",
    benchmark:
        "results/benchmarks/validate.tsv"
    conda:
        "../../environment.yml"
    threads: all_cores()
    resources:
        mem_mb=lambda wildcards, threads: 2000 * threads,
    params:
        settings=settings_of("validate"),
    shell:
        "exec python -m pipeline_lib.stages.validate.run"
        " --settings {params.settings:q}"
        " --manifests {input.manifests:q}"
        " --cases {output.cases:q}"
        " --log {log:q}"


rule resample:
    """Bring one raw case into canonical orientation, spacing and window, with its labels."""
    input:
        manifest="resources/raw/{dataset}/manifest.json",
    output:
        image="results/volumes/{dataset}/{case}/image.b2nd",
        labels="results/volumes/{dataset}/{case}/labels.b2nd",
        record="results/volumes/{dataset}/{case}/case.json",
    log:
        "logs/volumes/{dataset}/{case}.log",
    benchmark:
        "results/benchmarks/volumes/{dataset}/{case}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * resampling_memory_mb(),
    params:
        settings=settings_of("volume", "dataset", "case"),
        version=VERSIONS["volumes"],
    shell:
        "exec python -m pipeline_lib.stages.resample.run"
        " --settings {params.settings:q}"
        " --manifest {input.manifest:q}"
        " --image {output.image:q}"
        " --labels {output.labels:q}"
        " --record {output.record:q}"
        " --log {log:q}"


rule list_cases:
    """Gather what is known of every case of a data set: split, geometry, voxels of each ROI."""
    input:
        volumes=lambda wildcards: expand(
            "results/volumes/{dataset}/{case}/{file}",
            dataset=wildcards.dataset,
            case=LACUNA.dataset(wildcards.dataset).used_cases,
            file=("image.b2nd", "labels.b2nd", "case.json"),
        ),
    output:
        cases="results/volumes/{dataset}/cases.csv",
    log:
        "logs/case_list/{dataset}.log",
    benchmark:
        "results/benchmarks/case_list/{dataset}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
    params:
        settings=settings_of("case_list", "dataset"),
        version=VERSIONS["case_list"],
        folder="results/volumes/{dataset}",
    shell:
        "exec python -m pipeline_lib.stages.list_cases.run"
        " --settings {params.settings:q}"
        " --volume-folder {params.folder:q}"
        " --cases {output.cases:q}"
        " --log {log:q}"


rule delete_raw:
    """Delete the raw cases of a data set whose volumes are made; wanted only with `storage.keep_raw_cases: false`."""
    input:
        manifest="resources/raw/{dataset}/manifest.json",
        cases="results/volumes/{dataset}/cases.csv",
    output:
        deleted="resources/raw/{dataset}/deleted.json",
    log:
        "logs/delete_raw/{dataset}.log",
    benchmark:
        "results/benchmarks/delete_raw/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(PUBLISHED),
    priority: 10
    conda:
        "../../environment.yml"
    params:
        settings=settings_of("delete_raw", "dataset"),
    shell:
        "exec python -m pipeline_lib.stages.delete_raw.run"
        " --settings {params.settings:q}"
        " --manifest {input.manifest:q}"
        " --cases {input.cases:q}"
        " --deleted {output.deleted:q}"
        " --log {log:q}"
