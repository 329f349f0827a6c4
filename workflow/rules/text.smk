# Requires: config `rois`, `text`; for an encoder from a hub its weights, fetched once by `acquire`.
# Makes: resources/encoders/ENCODER/, results/text/ENCODER.safetensors


localrules:
    acquire_encoder,


rule acquire_encoder:
    """Download a text encoder's weights, so that no later stage needs a network."""
    output:
        weights=directory("resources/encoders/{encoder}"),
    log:
        "logs/acquire/{encoder}.log",
    benchmark:
        "results/benchmarks/acquire/{encoder}.tsv"
    retries: 3
    conda:
        "../../environment.yml"
    params:
        settings=settings_of("acquire_encoder", "encoder"),
    shell:
        "exec python -m pipeline_lib.stages.acquire_encoder.run"
        " --settings {params.settings:q}"
        " --weights {output.weights:q}"
        " --log {log:q}"


rule embed:
    """Turn the ROI names into vectors."""
    input:
        weights=lambda wildcards: (
            [f"resources/encoders/{wildcards.encoder}"]
            if wildcards.encoder in DOWNLOADED_ENCODERS
            else []
        ),
        # The user's own file, so that an edit of it counts; the stage says in a line where there is none.
        vectors=lambda wildcards: vectors_of(LACUNA.text.encoders[wildcards.encoder]),
    output:
        embeddings="results/text/{encoder}.safetensors",
    log:
        "logs/text/{encoder}.log",
    benchmark:
        "results/benchmarks/text/{encoder}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
    params:
        settings=settings_of("text", "encoder"),
        version=VERSIONS["text"],
    shell:
        "exec python -m pipeline_lib.stages.embed.run"
        " --settings {params.settings:q}"
        " --weights {input.weights:q}"
        " --embeddings {output.embeddings:q}"
        " --log {log:q}"
