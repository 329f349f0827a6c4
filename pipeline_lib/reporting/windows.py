"""Intensity windows of slices, as far as the volumes contain them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A window in HU: `low` is black, `high` is white. `clipped`: the volumes lack a part of the named window."""

    name: str
    low: float
    high: float
    clipped: bool = False

    @property
    def text(self) -> str:
        """As "lung window, −325 to 150 HU"."""
        return f"{self.name} window, {self.low:g} to {self.high:g} HU".replace("-", "−")

    def within(self, stored: tuple[float, float]) -> Window:
        """The part of the window that is left in volumes whose intensities are clipped to `stored` (HU)."""
        low, high = max(self.low, stored[0]), min(self.high, stored[1])
        if low >= high:
            return Window(self.name, *stored, clipped=True)
        return Window(self.name, low, high, clipped=(low, high) != (self.low, self.high))


SOFT_TISSUE = Window("soft tissue", -160, 240)
LIVER = Window("liver", 0, 200)
LUNG = Window("lung", -1350, 150)


def window_of(roi: str, stored: tuple[float, float]) -> Window:
    """The window for slices of a ROI: the lung window if its name contains "lung", else that of soft tissue."""
    return (LUNG if "lung" in roi.lower() else SOFT_TISSUE).within(stored)


def choices(stored: tuple[float, float]) -> list[Window]:
    """The windows that volumes clipped to `stored` (HU) contain as a whole, and at the end `stored` itself."""
    whole = (window.within(stored) for window in (SOFT_TISSUE, LIVER, LUNG))
    return [*(window for window in whole if not window.clipped), Window("whole", *stored)]
