"""Fetch a text encoder's files from where they are published, so that no later stage needs a network.

    python -m pipeline_lib.stages.acquire_encoder.run --settings SETTINGS --weights resources/encoders/ENCODER

BiomedCLIP's are fetched file by file, resumed and compared with the published checksum; its folder is what open_clip
reads as `local-dir:`. Those of other open_clip models come through open_clip's and the hub's own clients, which
retry by themselves.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ...datasets.download import Wanted
from ...datasets.transfers import fetch
from ...errors import UserError
from ...files import atomic_folder
from ...text.encoders import BIOMEDCLIP, fetch_open_clip
from ..command import stage_command
from .settings import Inputs, Outputs, Settings

_HUB = "https://huggingface.co"
_WEIGHTS = "open_clip_pytorch_model.bin"
_WEIGHTS_BYTES = 783_705_670
WEIGHTS_SHA256 = "52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be"
_OTHER_FILES = (
    "open_clip_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
# BiomedCLIP's config only names its text tower; open_clip would look that up on the hub.
_TEXT_TOWER, _TEXT_TOWER_CONFIG = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "config.json"


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    encoder = settings.encoder
    if not encoder.is_downloaded:
        where = f"text.encoders.{settings.name}"
        raise UserError(where, "needs no download", "leave it out of `raw_data`")
    # Snakemake removes a declared folder when its job fails; the fetched files must survive that to be resumed.
    fetched = outputs.weights.with_name(f".{outputs.weights.name}.fetched")
    if encoder.kind == "biomedclip":
        fetch(encoder_files(fetched, encoder.sha256 or WEIGHTS_SHA256), settings.name)
    else:
        fetch_open_clip(encoder, settings.name, fetched)
    with atomic_folder(outputs.weights) as folder:
        for path in fetched.iterdir():
            if path.is_file() and not path.name.startswith("."):
                path.replace(folder / path.name)
    shutil.rmtree(fetched)


def encoder_files(folder: Path, weights_sha256: str, hub: str = _HUB) -> list[Wanted]:
    """The files of the model below `folder`, and where a hub has them."""

    def wanted(repository: str, name: str, sha256: str | None = None, size_bytes: int | None = None) -> Wanted:
        url = f"{hub}/{repository}/resolve/main/{name}"
        return Wanted(url, folder / name, folder / f".{name}.part", sha256=sha256, size_bytes=size_bytes)

    return [
        *(wanted(BIOMEDCLIP, name) for name in _OTHER_FILES),
        wanted(_TEXT_TOWER, _TEXT_TOWER_CONFIG),
        wanted(BIOMEDCLIP, _WEIGHTS, weights_sha256, _WEIGHTS_BYTES if weights_sha256 == WEIGHTS_SHA256 else None),
    ]


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
