"""Inference, scores and report."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .section import Count, Millimetres, Name, Section


class Prediction(Section):
    """What decides the predictions."""

    renamed: ClassVar = {"mirror": "flip_tta"}

    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.5, description="Overlap of neighbouring windows.")
    flip_tta: bool = Field(
        default=False,
        description="Test-time augmentation: average over the eight flips of each window; those along x exchange the "
        "ROIs that are each other's `mirror`.",
    )
    weights: Literal["student", "teacher"] = Field(
        default="student", description="Which network predicts, where the method has a teacher."
    )
    post_processing: dict[Name, Literal["largest_part"]] = Field(
        default={},
        description="ROIs of whose prediction only the largest connected part is kept, as `liver: largest_part`.",
    )


class PredictionExecution(Section):
    """How predictions are computed; nothing here changes them beyond rounding, and an edit reruns nothing."""

    renamed: ClassVar = {"windows_at_once": "window_batch_size"}

    window_batch_size: Count = Field(default=2, description="Windows in one forward pass.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device; auto takes a GPU if there is one."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Autocast precision; auto is bfloat16 on a GPU and on a CPU that computes in it, else float32.",
    )


class Inference(PredictionExecution, Prediction):
    """Sliding-window inference. Editing `window_batch_size`, `device` or `precision` reruns nothing."""

    renamed: ClassVar = {**Prediction.renamed, **PredictionExecution.renamed}


class Scores(Section):
    """How predictions are scored."""

    truth: Literal["labelled", "full"] = Field(
        default="labelled",
        description="labelled scores the ROIs that a data set labels; full scores every ROI, which phantoms allow.",
    )
    convention: Literal["nnunet", "dodnet", "uniseg", "universal_model"] = Field(
        default="nnunet",
        description="Dice convention of the report's tables; the csv holds them all. nnunet leaves out a case where "
        "prediction and truth are both empty.",
    )
    surface_tolerance_mm: Millimetres = Field(default=2.0, description="Tolerance of the normalised surface Dice.")
