"""Text encoders: from one prompt per ROI to one vector per ROI.

The libraries are imported where they are used: each is large and one run needs one of them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config.text import TextEncoder
from ..errors import UserError

BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
"""Hugging Face's name of BiomedCLIP (512-d, MIT), the paper's encoder."""

_HUB, _FOLDER = "hf-hub:", "local-dir:"
_HUB_FILES = ["*.json", "*.txt", "*.model", "open_clip*.safetensors", "open_clip*.bin"]
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_CONFIG = "open_clip_config.json"
_TAGGED = "tagged_weights"
_POINTER = b"version https://git-lfs"


def encode_prompts(
    encoder: TextEncoder, name: str, prompts: tuple[str, ...], fetched: Path | None = None
) -> tuple[np.ndarray, str]:
    """Embeddings float32 K×D, not normalised, of `prompts` by a CLIP or wordllama, and the weights' SHA-256.

    `name` is the encoder's name in the config, for messages; `fetched` is the folder of a model that was fetched from
    the hub beforehand. Raises UserError if the model is not there (and no network is), if its weights are a pointer,
    damaged, or not those of `encoder.sha256`.
    """
    key = f"text.encoders.{name}"
    if encoder.kind == "wordllama":
        return _wordllama(prompts)
    model = encoder.model or ""
    if encoder.kind == "biomedclip":
        model = f"{_FOLDER}{encoder.model}" if encoder.model else _HUB + BIOMEDCLIP
    if model.startswith(_HUB):
        folder = fetched or hub_folder(model.removeprefix(_HUB), key)
        return _open_clip_folder(folder, encoder, prompts)
    if model.startswith(_FOLDER):
        return _open_clip_folder(Path(model.removeprefix(_FOLDER)), encoder, prompts)
    weights = _tagged_weights(encoder, key) if fetched is None else next(fetched.glob(f"{_TAGGED}.*"))
    sha256 = _checked_sha256(weights, encoder)
    return _open_clip(model, str(weights), prompts, pretrained=str(weights)), sha256


def fetch_open_clip(encoder: TextEncoder, name: str, folder: Path) -> None:
    """Fetch into `folder` all that `encode_prompts` needs of an encoder of kind open_clip, so that it needs no network.

    Raises UserError, naming the config's key, if it cannot be had.
    """
    key = f"text.encoders.{name}"
    if not (encoder.model or "").startswith(_HUB):
        weights = _tagged_weights(encoder, key)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, folder / f"{_TAGGED}{weights.suffix}")
        return
    hub_folder((encoder.model or "").removeprefix(_HUB), key, folder)
    text = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    if "hf_model_name" in text and not (folder / "config.json").is_file():
        hub_folder(text["hf_model_name"], key, folder, ["config.json"])


def read_vectors(encoder: TextEncoder, name: str, rois: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """Vectors float32 K×D from the .npy or .safetensors file `encoder.model`, and the file's SHA-256.

    A .npy file holds one row per ROI, in the order of `rois`. A .safetensors file holds one tensor of that shape, and
    if its metadata lists `rois` (JSON), rows are found by name. Raises UserError if it does not fit.
    """
    path = Path(encoder.model or "")
    where = str(path)
    sha256 = _checked_sha256(path, encoder)
    try:
        vectors, names = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    except Exception as error:
        raise UserError(where, f"cannot be read as vectors ({_line(error)})", "give .npy or .safetensors") from error
    if names is not None:
        missing = [roi for roi in rois if roi not in names]
        if missing:
            raise UserError(
                where, f"has no vector of {', '.join(missing)}", f"it must hold text.encoders.{name}'s ROIs"
            )
        vectors = vectors[[names.index(roi) for roi in rois]]
    if vectors.ndim != 2 or len(vectors) != len(rois) or vectors.shape[1] == 0:
        raise UserError(where, f"has shape {vectors.shape}", f"it must have {len(rois)} rows, one per ROI of `rois`")
    return vectors.astype(np.float32), sha256


def task_codes(rois: tuple[str, ...], tasks: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """DoDNet's task codes, float32 K×T: row k is the one-hot code of the task that segments ROI k.

    Raises UserError if a ROI is in no task.
    """
    codes = np.array([[roi in task for task in tasks] for roi in rois], np.float32)
    for roi, code in zip(rois, codes, strict=True):
        if code.sum() != 1:
            raise UserError(f"rois: {roi}", f"is in {code.sum():g} tasks", "exactly one data set's task must have it")
    return codes


def hub_folder(repository: str, key: str, folder: Path | None = None, files: Sequence[str] = _HUB_FILES) -> Path:
    """The local copy of an open_clip model of the Hugging Face hub, fetched if it is not there yet.

    It lies in `folder`, or where the hub's own library keeps such copies. Raises UserError, naming the config's `key`,
    if it is not there and cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(files), local_dir=folder))
    except Exception as error:
        raise UserError(
            f"{key}.model",
            f"{repository} is not on this machine and cannot be fetched ({_line(error)})",
            "run `snakemake raw_data --cores all` where there is a network, or name a local folder with the model",
        ) from error


def _open_clip_folder(folder: Path, encoder: TextEncoder, prompts: tuple[str, ...]) -> tuple[np.ndarray, str]:
    remedy = "run `snakemake raw_data --cores all`, or name a folder that holds a whole open_clip model"
    if not (folder / _CONFIG).is_file():
        raise UserError(str(folder / _CONFIG), "is missing", remedy)
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(str(folder), f"holds no weights ({' or '.join(_WEIGHTS)})", remedy)
    sha256 = _checked_sha256(weights, encoder)
    try:
        text = dict(json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]["text_cfg"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(folder / _CONFIG), "is not the config of an open_clip model", remedy) from error
    if "hf_model_name" in text and (folder / "config.json").is_file():
        # Published configs name the tower's as another repository, or as a path of their authors' machine.
        text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return _open_clip(f"{_FOLDER}{folder}", str(weights), prompts, text_cfg=text), sha256


def _tagged_weights(encoder: TextEncoder, key: str) -> Path:
    """The weights of a built-in model: the file that is named, or the published ones of a tag, fetched if need be."""
    open_clip = _imported_open_clip()
    model = encoder.model or ""
    if open_clip.get_model_config(model) is None:
        raise UserError(f"{key}.model", f"open_clip has no model {model}", "see open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if encoder.pretrained is None:
        raise UserError(f"{key}.pretrained", "is missing, so there are no weights", f"choose one of {', '.join(tags)}")
    if Path(encoder.pretrained).is_file():
        return Path(encoder.pretrained)
    if encoder.pretrained not in tags:
        raise UserError(
            f"{key}.pretrained",
            f"{encoder.pretrained} is neither a file nor a tag of {model}",
            f"tags: {', '.join(tags)}",
        )
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(model, encoder.pretrained)))
    except Exception as error:
        raise UserError(
            f"{key}.pretrained",
            f"{encoder.pretrained} is not on this machine and cannot be fetched ({_line(error)})",
            "run `snakemake raw_data --cores all` where there is a network, or name a weights file",
        ) from error


def _imported_open_clip() -> Any:
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:
        # A torchvision that was built for another torch (one of them for CPUs alone) ends in a RuntimeError.
        remedy = "install open_clip_torch, and torch and torchvision from one index (README), or use encoder wordllama"
        raise UserError("open_clip", f"cannot be imported ({_line(error)})", remedy) from error
    return open_clip


def _open_clip(model: str, where: str, prompts: tuple[str, ...], **options: Any) -> np.ndarray:
    import torch

    open_clip = _imported_open_clip()
    try:
        network = open_clip.create_model(model, require_pretrained=True, **options).eval()
        tokens = open_clip.get_tokenizer(model)(list(prompts))
    except Exception as error:
        raise UserError(
            where, f"open_clip cannot load it ({_line(error)})", "check that the folder or file holds a whole model"
        ) from error
    with torch.no_grad():
        return network.encode_text(tokens).float().numpy()


def _wordllama(prompts: tuple[str, ...]) -> tuple[np.ndarray, str]:
    import wordllama

    # Its own search looks in a folder that the wheel does not fill, and then goes to the network.
    folder = Path(wordllama.__file__).parent
    encoder = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    weights = next((folder / "weights").glob("*_256.safetensors"))
    return np.asarray(encoder.embed(list(prompts)), np.float32), file_sha256(weights)


def _read_npy(path: Path) -> tuple[np.ndarray, list[str] | None]:
    return np.load(path, allow_pickle=False), None


def _read_safetensors(path: Path) -> tuple[np.ndarray, list[str] | None]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        (name,) = file.keys()
        rois = (file.metadata() or {}).get("rois")
        return file.get_tensor(name), json.loads(rois) if rois else None


def _checked_sha256(path: Path, encoder: TextEncoder) -> str:
    """The file's SHA-256, once it is known to be there, whole and the wanted one."""
    if not path.is_file():
        raise UserError(str(path), "is missing", "check the path")
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise UserError(
                str(path),
                f"is a git-lfs pointer of {path.stat().st_size} bytes in place of the file",
                "fetch the file itself (git lfs pull there, or the target `raw_data`)",
            )
    sha256 = file_sha256(path)
    if encoder.sha256 not in (None, sha256):
        raise UserError(
            str(path), f"has SHA-256 {sha256}, wanted is {encoder.sha256}", "fetch it again, or correct `sha256`"
        )
    return sha256


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: BaseException) -> str:
    """An error in one short line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else words[:157] + "…"
