# Requires: results/volumes/DATASET/cases.csv, results/existence/DATASET.parquet, results/embeddings/ENCODER.safetensors;
# for the check of pseudo labels also resources/truth/ of phantoms.
# Makes: results/models/TRAINING/ (model, history, snapshots of the teacher if asked for), results/pseudo_labels/;
# checkpoints in work/train/ are undeclared on purpose: Snakemake deletes declared outputs of a failed job, and an
# interrupted training resumes from its checkpoint.


rule train:
    """Train one method: mean teacher, latent classes, or labels alone."""
    input:
        cases=volumes_of_training,
        existence=existence_of_training,
        embeddings=lambda wildcards: f"results/embeddings/{encoder_of(wildcards.run)}.safetensors",
        roi_aware_model=only_with_existence(
            "results/roi_aware_network/model.safetensors"
        ),
        # So that an edit of it counts; the stage says in a line where there is none.
        start=lambda wildcards: start_of(wildcards.run),
    output:
        model="results/models/{run}/model.safetensors",
        history="results/models/{run}/history.jsonl",
        # Beside the model; not in the command, so that setting or removing the key trains nothing that has none.
        teachers=(
            directory("results/models/{run}/teachers")
            if LACUNA.pseudo_labels.snapshots
            else []
        ),
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


rule check_pseudo_labels:
    """Compare what a method's teacher tells its student, over the training, with the full truth.

    No training reads what this makes. It is not part of `all`; once made, the report shows it and keeps it up to date.
    """
    input:
        cases=volumes_of_training,
        existence=existence_of_training,
        embeddings=lambda wildcards: f"results/embeddings/{encoder_of(wildcards.run)}.safetensors",
        roi_aware_model=rules.train.input.roi_aware_model,
        # The task is built as in the training, and so starts from it.
        start=lambda wildcards: start_of(wildcards.run),
        teachers="results/models/{run}/teachers",
        truth=expand(
            "resources/truth/{dataset}",
            dataset=[dataset for dataset in LEARNED if dataset in PHANTOM],
        ),
        code=code_of(
            "stages/check_pseudo_labels/*.py",
            "methods/*.py",
            "methods/*/task.py",
            "reporting/pseudo_label_rates.py",
        ),
    output:
        table="results/pseudo_labels/{run}.csv",
    log:
        "logs/check_pseudo_labels/{run}.log",
    benchmark:
        "results/benchmarks/check_pseudo_labels/{run}.tsv"
    wildcard_constraints:
        run=rf"(?:{any_of(LACUNA.methods)})-seed\d+(?:-fold\d+)?",
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        gpu=gpus_of(LACUNA.execution, most=1),
    params:
        settings=settings_of("check_pseudo_labels"),
        execution=execution_of("check_pseudo_labels"),
    shell:
        shell_command("check_pseudo_labels")
