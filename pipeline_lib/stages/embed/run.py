"""One embedding per ROI, from its prompt and a text encoder (for DoDNet, from its task).

By hand:

    python -m pipeline_lib.stages.embed.run --settings settings.json \\
        --embeddings results/embeddings/wordllama.safetensors
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ...errors import UserError
from ...progress import say
from ...text.embeddings import write_embeddings
from ...text.encoders import encode_prompts, read_vectors, task_codes
from ..command import stage_command
from .settings import Inputs, Outputs, Settings


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    """Write the embeddings, K×D; raises UserError if the encoder cannot be loaded or gives two ROIs the same vector."""
    encoder, rois = settings.encoder, settings.rois
    prompts: tuple[str, ...] = ()
    if encoder.kind == "one_hot":
        embeddings, sha256 = task_codes(rois, settings.tasks), ""
    elif encoder.kind == "file":
        embeddings, sha256 = read_vectors(encoder, settings.name, rois)
    else:
        prompts = tuple(settings.prompt.replace("{}", text) for text in settings.texts)
        embeddings, sha256 = encode_prompts(encoder, settings.name, prompts, *inputs.weights)
    _check(embeddings, settings)
    write_embeddings(outputs.embeddings, embeddings, rois, prompts, encoder.model_dump_json(), sha256)
    say(f"embed: {len(rois)} ROIs × {embeddings.shape[1]} numbers by {settings.name}")


def _check(embeddings: np.ndarray, settings: Settings) -> None:
    where = f"text.encoders.{settings.name}"
    if not np.isfinite(embeddings).all():
        raise UserError(where, "gives numbers that are not finite", "check its weights or vectors")
    if settings.encoder.kind == "one_hot":
        return
    for (first, vector), (second, other) in combinations(zip(settings.rois, embeddings, strict=True), 2):
        if np.array_equal(vector, other):
            raise UserError(where, f"gives {first} and {second} the same vector", "give them different texts")


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
