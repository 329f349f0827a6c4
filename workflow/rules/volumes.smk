# Requires: config `datasets`, `phantom`, `volumes`.
# Makes: resources/raw/DATASET/, resources/truth/DATASET/, results/validation.csv, results/volumes/DATASET/CASE/,
# results/volumes/DATASET/batch_NUMBER.txt and cases.csv, and with `storage.keep_raw_cases: false`
# resources/raw/DATASET/deleted.json instead of the raw cases.


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
    # Downloads retry by themselves; what the user must fix would fail again.
    retries: 0
    conda:
        "../../environment.yml"
    params:
        settings=settings_of("acquire"),
        execution=execution_of("acquire"),
    shell:
        shell_command("acquire", without=["truth"])


rule acquire_phantom:
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
        settings=settings_of("acquire"),
        execution=execution_of("acquire"),
        version=version_of("acquire"),
    shell:
        shell_command("acquire")


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
        shell_command("validate")


rule resample:
    """Bring a batch of raw cases into canonical orientation, spacing and window, with their labels.

    Volumes are not declared: each is kept whatever becomes of its batch (stages/resample/run.py).
    """
    input:
        manifest=manifest_of_batch,
    output:
        batch="results/volumes/{dataset}/batch_{batch}.txt",
    log:
        "logs/resample/{dataset}/{batch}.log",
    benchmark:
        "results/benchmarks/resample/{dataset}/{batch}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * resampling_memory_mb(),
    params:
        settings=settings_of("resample"),
        execution=execution_of("resample"),
        version=version_of("resample"),
    shell:
        shell_command("resample")


rule list_cases:
    """Gather what is known of every case of a data set: split, geometry, voxels of each ROI."""
    input:
        batches=lambda wildcards: expand(
            "results/volumes/{dataset}/batch_{batch}.txt",
            dataset=wildcards.dataset,
            batch=batches_of(LACUNA.dataset(wildcards.dataset)),
        ),
    output:
        cases="results/volumes/{dataset}/cases.csv",
    log:
        "logs/list_cases/{dataset}.log",
    benchmark:
        "results/benchmarks/list_cases/{dataset}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
    params:
        settings=settings_of("list_cases"),
        version=version_of("list_cases"),
        volume_folder="results/volumes/{dataset}",
    shell:
        shell_command("list_cases", params=["volume_folder"])


rule delete_raw:
    """Delete the raw cases of a data set whose volumes are made; used only with `storage.keep_raw_cases: false`."""
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
        settings=settings_of("delete_raw"),
    shell:
        shell_command("delete_raw")
