# Requires: results/volumes/DATASET/cases.csv, results/existence/DATASET.parquet, results/embeddings/ENCODER.safetensors.
# Makes: results/models/TRAINING/ (model, history); checkpoints in work/train/ are undeclared on purpose:
# Snakemake deletes declared outputs of a failed job, and an interrupted training resumes from its checkpoint.


rule train:
    """Train one method: mean teacher, latent classes, or labels alone."""
    input:
        cases=expand("results/volumes/{dataset}/cases.csv", dataset=LEARNED),
        existence=expand("results/existence/{dataset}.parquet", dataset=LEARNED),
        embeddings=lambda wildcards: f"results/embeddings/{encoder_of(wildcards.run)}.safetensors",
        roi_aware_model=only_with_existence(
            "results/roi_aware_network/model.safetensors"
        ),
        # So that an edit of it counts; the stage says in a line where there is none.
        start=lambda wildcards: files_that_exist(
            LACUNA.methods[LACUNA.run(wildcards.run).method].start_from
        ),
    output:
        model="results/models/{run}/model.safetensors",
        history="results/models/{run}/history.jsonl",
    log:
        "logs/train/{run}.log",
    benchmark:
        "results/benchmarks/train/{run}.tsv"
    wildcard_constraints:
        run=rf"(?:{any_of(LACUNA.methods)})-seed\d+(?:-fold\d+)?",
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        # A process for each GPU, and at least a sample for each process.
        gpu=gpus_of(LACUNA.execution, most=LACUNA.segmentation.batch_size),
    params:
        settings=settings_of("train"),
        execution=execution_of("train"),
        version=version_of("train"),
        # The resource itself is absent on one node: its mere presence makes SLURM's plugin expect several.
        srun=lambda wildcards, resources: resources.get("mpi", ""),
    shell:
        shell_command(
            "train",
            launcher="{params.srun} python -m pipeline_lib.tools.launch --gpus {resources.gpu}",
        )
