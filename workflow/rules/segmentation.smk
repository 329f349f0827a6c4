# Requires: results/volumes/*/cases.csv, results/existence/*.parquet, results/text/ENCODER.safetensors
# Makes: results/segmentation/RUN/ (model, history); checkpoints in work/segmentation/ are undeclared on purpose:
# Snakemake deletes declared outputs of a failed job, and a killed training goes on from its checkpoint.


rule train:
    """Train one method: mean teacher, latent classes, or labels alone."""
    input:
        cases=expand("results/volumes/{dataset}/cases.csv", dataset=PARTIAL),
        existence=expand("results/existence/{dataset}.parquet", dataset=PARTIAL),
        embeddings=lambda wildcards: f"results/text/{encoder_of(wildcards.run)}.safetensors",
        roi_aware_model=only_with_existence("results/roi_aware/model.safetensors"),
    output:
        model="results/segmentation/{run}/model.safetensors",
        history="results/segmentation/{run}/history.jsonl",
    log:
        "logs/segmentation/{run}.log",
    benchmark:
        "results/benchmarks/segmentation/{run}.tsv"
    conda:
        "../../environment.yml"
    threads: training_threads()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_memory_mb(),
        # A process for each GPU, and at least a sample for each process.
        gpu=(
            0
            if LACUNA.execution.device == "cpu"
            else min(visible_gpus(), LACUNA.segmentation.batch)
        ),
    params:
        settings=settings_of("segmentation", "run"),
        execution=execution_of("segmentation"),
        version=VERSIONS["segmentation"],
        # The resource itself is absent on one node: its mere presence makes SLURM's plugin expect several.
        srun=lambda wildcards, resources: resources.get("mpi", ""),
    shell:
        "exec {params.srun} python -m pipeline_lib.tools.launch --gpus {resources.gpu}"
        " pipeline_lib.stages.train.run"
        " --settings {params.settings:q}"
        " --execution {params.execution:q}"
        " --cases {input.cases:q}"
        " --existence {input.existence:q}"
        " --embeddings {input.embeddings:q}"
        " --roi-aware-model {input.roi_aware_model:q}"
        " --model {output.model:q}"
        " --history {output.history:q}"
        " --log {log:q}"
