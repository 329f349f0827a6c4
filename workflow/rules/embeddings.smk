# Requires: config `rois`, `text`; for an encoder from a hub its weights, fetched once by `raw_data`.
# Makes: resources/encoders/ENCODER/, results/embeddings/ENCODER.safetensors


localrules:
    acquire_encoder,


rule acquire_encoder:
    """Download a text encoder's weights, so that no later stage needs a network."""
    output:
        weights=directory("resources/encoders/{encoder}"),
    log:
        "logs/acquire_encoder/{encoder}.log",
    benchmark:
        "results/benchmarks/acquire_encoder/{encoder}.tsv"
    # Downloads retry by themselves; what the user must fix would fail again.
    retries: 0
    conda:
        "../../environment.yml"
    params:
        settings=settings_of("acquire_encoder"),
        version=version_of("acquire_encoder"),
    shell:
        shell_command("acquire_encoder")


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
        embeddings="results/embeddings/{encoder}.safetensors",
    log:
        "logs/embed/{encoder}.log",
    benchmark:
        "results/benchmarks/embed/{encoder}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
    params:
        settings=settings_of("embed"),
        version=version_of("embed"),
    shell:
        shell_command("embed")
