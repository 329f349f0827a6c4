"""Text encoders that turn ROI names into vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .section import Name, Section


class TextEncoder(Section):
    """One way to make a K×D matrix of ROI embeddings."""

    kind: Literal["biomedclip", "open_clip", "file", "wordllama", "one_hot"] = Field(
        description="biomedclip and open_clip load a CLIP text tower; wordllama needs no network; file reads "
        "vectors from an .npy or .safetensors file; one_hot is DoDNet's task code (one per data set)."
    )
    model: str | None = Field(
        default=None,
        description="open_clip model name (hf-hub:…, local-dir:…, or NAME with `pretrained`); for biomedclip a local "
        "folder, or null for the hub; for file its path.",
    )
    pretrained: str | None = Field(default=None, description="open_clip's tag of pretrained weights, if any.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="Wanted SHA-256 of the weights file (null: not checked)."
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.kind in ("open_clip", "file") and not self.model:
            raise ValueError(f"a text encoder of kind {self.kind} needs `model`")
        if self.kind in ("wordllama", "one_hot") and (self.model or self.pretrained or self.sha256):
            raise ValueError(f"a text encoder of kind {self.kind} takes no model, pretrained or sha256")
        return self

    @property
    def is_downloaded(self) -> bool:
        """Whether its weights come from a hub, so that the stage acquire_encoder must fetch them."""
        if self.kind == "biomedclip":
            return self.model is None
        from_hub = (self.model or "").startswith("hf-hub:")
        by_tag = self.pretrained is not None and not Path(self.pretrained).is_file()
        return self.kind == "open_clip" and (from_hub or by_tag)


class Text(Section):
    """The prompt and the named encoders that methods may use."""

    prompt: str = Field(
        default="A computerized tomography of a {}",
        description="Prompt; {} stands for the ROI's text (the Universal Model's wording).",
    )
    encoders: dict[Name, TextEncoder] = Field(description="Encoders by the name that methods use.")

    @model_validator(mode="after")
    def _prompt_has_its_place(self) -> Self:
        if self.prompt.count("{}") != 1:
            raise ValueError("`prompt` must contain {} exactly once, where the ROI's text goes")
        return self
