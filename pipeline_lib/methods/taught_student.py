"""What tasks share whose one network learns from a mean teacher and has one sigmoid per ROI."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..config.method_settings import TeacherScheduleSettings
from ..data.batches import Batch
from .averaged_student import AveragedStudent
from .pseudo_labels import PseudoLabels
from .ramp_up import teacher_weight


class TaughtStudent(AveragedStudent, ABC):
    """A student that its teacher tells about ROIs.

    What has no gradient, the teacher's pass above all, comes first in its losses: a pass needs less memory while no
    activations of the student are kept.
    """

    settings: TeacherScheduleSettings

    def teacher_weight(self, progress: float) -> float:
        """Factor of the terms that wait for the warm-up; `progress` is the share of the training that is done (0…1)."""
        return teacher_weight(progress, self.settings.warmup_fraction, self.settings.rampup_fraction)

    @abstractmethod
    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        """What the teacher tells the student of the ROIs that the labels of `batch` leave open."""
