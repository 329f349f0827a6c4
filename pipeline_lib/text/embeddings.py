"""ROI embeddings on disk: one row per ROI, with the ROIs, prompts and encoder that made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from ..errors import UserError
from ..files import atomic_write

_TENSOR = "embeddings"
_REMEDY = "delete it and run `snakemake embeddings --cores all`"


def write_embeddings(
    path: Path, embeddings: np.ndarray, rois: tuple[str, ...], prompts: tuple[str, ...], encoder: str, sha256: str
) -> None:
    """Write float32 K×D `embeddings`, row k for `rois[k]`; `encoder` is its settings as JSON.

    Equal arguments write equal bytes, since trainings that are resumed know their inputs by their content.
    """
    metadata = {
        "rois": json.dumps(rois),
        "prompts": json.dumps(prompts),
        "encoder": encoder,
        "weights_sha256": sha256,
    }
    with atomic_write(path) as partial:
        written = save({_TENSOR: np.ascontiguousarray(embeddings, np.float32)}, metadata)
        partial.write_bytes(_with_sorted_header(written))


def read_embeddings(path: Path, rois: tuple[str, ...]) -> Tensor:
    """The embeddings K×D float32 of exactly these `rois`, in this order.

    Raises UserError if the file is missing or broken, or holds other ROIs or another order.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            held = json.loads((file.metadata() or {}).get("rois", "[]"))
            embeddings = file.get_tensor(_TENSOR)
    except OSError as error:
        raise UserError(
            str(path), f"cannot be read ({error.strerror or error})", "run `snakemake embeddings --cores all`"
        ) from error
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(str(path), f"is not a complete file of embeddings ({error})", _REMEDY) from error
    if tuple(held) != rois:
        raise UserError(str(path), f"holds the ROIs {', '.join(held)}, not {', '.join(rois)}", _REMEDY)
    return embeddings.to(torch.float32)


def _with_sorted_header(written: bytes) -> bytes:
    """The same safetensors file with its metadata in order; the library writes them in a random one."""
    end = 8 + int.from_bytes(written[:8], "little")
    header = json.dumps(json.loads(written[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + written[end:]
