"""How a network is trained: shared by the ROI-aware network and the segmentation networks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .section import Count, NonNegative, Section

Positive = Annotated[float, Field(gt=0)]
Checkpointing = Literal["none", "transformer", "all"]


class Optimisation(Section):
    """AdamW with a cosine schedule; one crop per case and epoch."""

    renamed: ClassVar = {"batch": "batch_size", "gradient_clip": "max_grad_norm"}

    epochs: Count = Field(default=2000, description="Epochs; each takes one crop of every training case.")
    batch_size: Count = Field(default=12, description="Crops in one step, over all processes and accumulated parts.")
    learning_rate: Positive = Field(default=1e-4, description="Highest learning rate of AdamW.")
    weight_decay: NonNegative = Field(default=1e-5, description="AdamW's weight decay.")
    warmup_epochs: NonNegative = Field(
        default=0, description="Epochs over which the learning rate rises from 0 (Universal Model: 100)."
    )
    max_grad_norm: Positive | None = Field(
        default=None, description="Norm to which larger gradients are clipped (null: no clipping)."
    )

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"`warmup_epochs` {self.warmup_epochs:g} must be below `epochs` {self.epochs}")
        return self


class Execution(Section):
    """How the training runs; nothing here changes what is learned beyond rounding."""

    renamed: ClassVar = {"accumulation": "gradient_accumulation_steps", "data_workers": "num_workers"}

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device; auto takes a GPU if there is one."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Autocast precision; auto is bfloat16 on a GPU and on a CPU with AMX, else float32."
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        default="auto",
        description="Order of a map's values in memory; auto is channels_last for swin_unetr on a CPU in float32, else "
        "contiguous.",
    )
    gradient_accumulation_steps: Literal["auto"] | Count = Field(
        default="auto",
        description="Parts into which each process divides its share of the batch to save memory; auto takes, by "
        "estimate, what is fastest in the memory that is free. Either way it divides further when memory runs out. The "
        "ROI-aware network's result depends on it: there auto is 1, and nothing is divided further.",
    )
    gradient_checkpointing: Literal["auto", Checkpointing] = Field(
        default="auto",
        description="What backward computes again instead of keeping it, to save memory: nothing, SwinUNETR's "
        "transformer (DoDNet and the ROI-aware network have none), or all blocks of a segmentation network's trunk; "
        "auto is chosen with an automatic `gradient_accumulation_steps`, else transformer on a GPU and none on a CPU.",
    )
    compile: bool = Field(default=False, description="Compile the networks with torch.compile.")
    fused_head: bool = Field(
        default=True,
        description="On a GPU, compute the dynamic head's layers in Triton kernels, without hidden layers in memory; "
        "where they do not work (tried at the start), with `compile`, or with false, as batched matrix products.",
    )
    num_workers: Annotated[int, Field(ge=0)] = Field(
        default=2,
        description="Processes that read crops, per training process (0: the training process reads).",
    )
    checkpoint_minutes: Positive = Field(default=10.0, description="Minutes between two checkpoints.")
    nonfinite_limit: Annotated[int, Field(ge=0)] = Field(
        default=20,
        description="Steps with a non-finite loss or gradient that are skipped before training stops.",
    )

    @property
    def parts(self) -> int:
        """`gradient_accumulation_steps` as a number: `auto` is 1 until somebody has chosen one."""
        return 1 if self.gradient_accumulation_steps == "auto" else self.gradient_accumulation_steps
