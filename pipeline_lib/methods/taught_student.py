"""What tasks share whose one network learns from a mean teacher and has one sigmoid per ROI."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..data.batches import Batch
from .averaged_student import AveragedStudent
from .pseudo_labels import PseudoLabels


class TaughtStudent(AveragedStudent, ABC):
    """A student that its teacher tells about ROIs; the settings of its method are `TeacherScheduleSettings`."""

    @abstractmethod
    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        """What the teacher tells the student of the ROIs that the labels of `batch` leave open."""
