"""What the settings of all methods share, and the parts that several methods are configured with."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from .section import Count, Fraction, Name, Section

Sampling = Literal["uniform_case", "uniform_dataset", "square_root"]
DiceForm = Literal["published", "smoothed", "smoothed_100", "batch", "present"]

UNLABELLED_SHARE = 0.5
"""Largest share of an epoch that cases without any label have unless the method says otherwise."""
SHARPENING_TEMPERATURE = 0.1
"""τ of Eq. 2 as the paper has it."""

_SELF_SUPERVISED = (".pt", ".pth")


def is_self_supervised(start_from: str | PurePath) -> bool:
    """Whether a file that `start_from` names has self-supervised weights; every other is a segmentation model."""
    return PurePath(start_from).suffix in _SELF_SUPERVISED


class SupervisedLoss(Section):
    """Eq. 1 on labelled ROIs, whose form the paper leaves open: binary cross-entropy plus soft Dice, or one of them.

    The paper sums Eq. 1 to 3 over the ROIs; here each is a mean over the ROIs that it selects in a sample, so that the
    weight of a term does not grow with their number, unless `over_rois` says so of Eq. 1. (DoDNet and the Universal
    Model take means over a whole batch.)
    """

    cross_entropy: bool = Field(default=True, description="Include the binary cross-entropy.")
    dice: DiceForm | None = Field(
        default="published",
        description="Form of the soft Dice term: published adds 1 voxel to the denominator alone (DoDNet, Universal "
        "Model); smoothed and smoothed_100 add 1 or 100 voxels to numerator and denominator; batch sums over the "
        "samples computed together (nnU-Net); present is published, averaged over the ROIs that the patch contains; "
        "null leaves the term out.",
    )
    over_rois: Literal["mean", "sum"] = Field(
        default="mean",
        description="mean: over the ROIs that a sample labels; sum: each weighs the same, however many the sample "
        "labels (MultiTalent).",
    )
    absent_weight: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Weight of the cross-entropy of a labelled ROI that the patch does not contain."
    )

    @model_validator(mode="after")
    def _has_a_term(self) -> Self:
        if not self.cross_entropy and self.dice is None:
            raise ValueError("Eq. 1 needs a term: set `cross_entropy` to true or name a form of `dice`")
        if not self.cross_entropy and self.absent_weight != 1:
            raise ValueError("`absent_weight` has no effect without `cross_entropy`: leave it out")
        return self


class MethodSettings(Section):
    """The keys of every method, and the facts that the settings class of a method states about it.

    `needs_teacher` says whether it uses the mean teacher, `asks_one_roi` whether it asks its network for one ROI of
    each sample, `needs_features` whether it also needs the network's last features, `sees_data_sets` whether it tells
    its network the samples' data sets, as one with parts for each must know, `may_ignore_existence` whether it learns
    without existence scores where its `decision` is null; `terms` names the terms of its loss, in the order of the
    figure of the losses, with their titles there. `revision` is raised when its code or one of its defaults changes
    what it learns: no model of an earlier one is taken for one of this.
    """

    revision: ClassVar[int] = 1

    needs_teacher: ClassVar[bool] = False
    asks_one_roi: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False
    sees_data_sets: ClassVar[bool] = False
    may_ignore_existence: ClassVar[bool] = False
    terms: ClassVar[Mapping[str, str]] = {"supervised": "supervised loss (Eq. 1)"}

    kind: str = Field(description="What the method learns from, and how.")
    network: Name = Field(description="Network that it trains, one of `networks`.")
    encoder: Name = Field(
        description="Text encoder, one of `text.encoders`, of the kind that the network needs: one_hot for dodnet, "
        "any other for the rest. Only swin_unetr's text-conditioned head reads its embeddings; conemos, hermes and "
        "uniseg_unet, and the heads that `per_data_set` puts in its place, ignore them."
    )
    labelled_cases: dict[Name, Count] = Field(
        default={},
        description="Data set → number of its labelled training cases to learn from, drawn by the seed. They are "
        "repeated in place of the other labelled ones, so that nothing else changes (data sets not named: all cases).",
    )

    sampling: Sampling = Field(
        default="uniform_case",
        description="Which case the next crop is of. uniform_case: every case once in each epoch; uniform_dataset: "
        "each data set equally often; square_root: a data set of n cases in proportion to √n (MultiTalent). The last "
        "two draw with replacement.",
    )

    start_from: str | None = Field(
        default=None,
        description="File that the training begins with (null: random weights): a segmentation model of the same "
        "network, which is also the first teacher and whose ROIs need no labels here, or MONAI's self-supervised "
        "weights of SwinUNETR (.pt).",
    )

    unlabelled_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=UNLABELLED_SHARE,
        description="Largest share of an epoch that cases without any label may have. Where there are more of them, "
        "they take turns: an epoch has every labelled case once, and as many of the others as the share leaves room "
        "for. With another `sampling`, the probability of cases without labels is lowered to the share. 1: no limit. "
        "Methods that learn from labels alone leave them out; to leave them out of all, do not name their data set.",
    )

    keep_start: bool = Field(
        default=True,
        description="ROIs that the model of `start_from` knows, and that a case does not label, are labelled by that "
        "model, which keeps them; where the cases label all others, only the loss on labels is left. False: the "
        "method decides, as on every unlabelled ROI; `latent_class` then forgot them (docs/evidence.md).",
    )

    @field_validator("start_from")
    @classmethod
    def _is_not_made_here(cls, start_from: str | None) -> str | None:
        if start_from is not None and posixpath.normpath(start_from).startswith("results/"):
            raise ValueError(
                f"`start_from: {start_from}` would be made again by this config: name the kept copy, "
                "models/train/FINGERPRINT/model.safetensors, or copy the file"
            )
        return start_from

    @model_validator(mode="after")
    def _has_a_model_to_keep(self) -> Self:
        if not (self.keep_start or self.starts_from_model):
            raise ValueError("`keep_start` has no effect unless `start_from` names a segmentation model: leave it out")
        return self

    @model_validator(mode="after")
    def _has_cases_to_limit(self) -> Self:
        if self.unlabelled_share != UNLABELLED_SHARE and not self.learns_without_labels:
            raise ValueError(
                f"`unlabelled_share` has no effect: {self.kind} learns from labels alone, and leaves out cases without "
                "any: leave out the key"
            )
        return self

    @property
    def learns_without_labels(self) -> bool:
        """Whether a case that labels no ROI teaches it something, by a term of its own or by a start model's labels."""
        return self.keeps_start

    @property
    def starts_from_model(self) -> bool:
        """Whether `start_from` names a segmentation model, not self-supervised weights."""
        return self.start_from is not None and not is_self_supervised(self.start_from)

    @property
    def keeps_start(self) -> bool:
        """Whether a start model labels the ROIs that it knows."""
        return self.starts_from_model and self.keep_start

    @property
    def needs_existence(self) -> bool:
        """Whether it uses existence scores of ROIs."""
        return False

    @property
    def needs_organs(self) -> bool:
        """Whether it must know which ROIs are parts of the same organ (`structures` and `organ` of the ROIs)."""
        return False

    @property
    def sums_over_batch(self) -> bool:
        """Whether a term sums over the samples that are computed together, so that their number changes the result."""
        return False

    @property
    def mixes_samples(self) -> bool:
        """Whether it mixes samples that are computed together, so that there must be two, always the same."""
        return False


class SupervisedMethodSettings(MethodSettings):
    """The keys of every method of which the loss on labels is Eq. 1."""

    supervised: SupervisedLoss = Field(default=SupervisedLoss(), description="Eq. 1, the loss on labelled ROIs.")

    @property
    def sums_over_batch(self) -> bool:
        return self.supervised.dice == "batch"


class LeafMethodSettings(MethodSettings):
    """The keys of every method with one softmax over the sets of ROIs that a voxel can be in, in place of Eq. 1.

    Such a set is a leaf. Its logit is the sum of those of its ROIs, so ROIs of one organ stay independent, and ROIs
    that exclude each other compete in a softmax with the background, whose logit is 0.
    """

    @property
    def needs_organs(self) -> bool:
        return True


class TeacherScheduleSettings(SupervisedMethodSettings):
    """The keys of every method that learns from a mean teacher too: when the terms that wait for it count."""

    needs_teacher: ClassVar[bool] = True

    warmup_fraction: Fraction = Field(
        default=0.0, description="Share of the training on labels alone, before the teacher's terms count."
    )
    rampup_fraction: Fraction = Field(
        default=0.0,
        description="Share of the training, after the warm-up, over which their weights rise as exp(−5(1−t)²).",
    )

    @model_validator(mode="after")
    def _schedule_fits_the_training(self) -> Self:
        if self.warmup_fraction + self.rampup_fraction > 1:
            raise ValueError("`warmup_fraction` and `rampup_fraction` together must not exceed 1")
        return self

    @property
    def learns_without_labels(self) -> bool:
        return True


class TeacherMethodSettings(TeacherScheduleSettings):
    """The keys of every method in which the teacher may say that a voxel belongs to two organs."""

    exclusive_organs: bool = Field(
        default=False,
        description="True: no voxel is taught as two organs. Where it is labelled as another organ, or where the "
        "teacher is more certain of another, a ROI's target is lowered to what that leaves (not in the paper).",
    )

    @property
    def needs_organs(self) -> bool:
        return self.exclusive_organs


class Teacher(Section):
    """The mean teacher: an exponential moving average of the student, the same for every method that has one."""

    decay: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.999, description="α of the moving average.")
    fast_start: bool = Field(
        default=True,
        description="Use min(1 − 1/(t+1), decay) at update t, so that a young teacher follows its student (the formula "
        "of the mean teacher's published code).",
    )
