"""HU of tissues by contrast phase, tissue texture and image noise."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from .frame import Array, Grid, smooth_field

Phase = Literal["native", "arterial", "portal_venous"]

MUSCLE_HU = 58.0
AIR_HU = -1000.0
MIXED_PHASES: dict[Phase, float] = {"native": 0.2, "arterial": 0.25, "portal_venous": 0.55}

# Native, arterial, portal venous: typical means of adult scans at 120 kV.
_SOFT_TISSUE: dict[str, tuple[float, float, float]] = {
    "muscle": (52, 56, 60),
    "liver": (58, 70, 110),
    "spleen": (50, 112, 124),
    "kidney_cortex": (34, 190, 192),
    "kidney_medulla": (30, 85, 172),
    "pancreas": (42, 105, 96),
    "stomach_wall": (42, 85, 84),
    "bowel_wall": (40, 72, 80),
    "gallbladder": (8, 8, 10),
    "arteries": (42, 300, 155),
    "portal_vein": (42, 120, 172),
    "hepatic_vein": (42, 78, 162),
    "vena_cava": (42, 88, 138),
    "heart_left": (42, 280, 150),
    "heart_right": (42, 220, 142),
    "myocardium": (44, 105, 108),
    "liver_tumor": (38, 48, 62),
    "kidney_tumor": (38, 105, 98),
    "pancreas_tumor": (36, 62, 58),
    "colon_cancer": (42, 78, 86),
    "lung_tumor": (30, 45, 48),
    "cartilage": (75, 80, 85),
}
# The same in every phase.
_OTHER: dict[str, float] = {
    "skin": 20,
    "fat": -102,
    "organ_fat": -92,
    "lung": -850,
    "airway": -990,
    "gas": -960,
    "stomach_content": 18,
    "bowel_content": 24,
    "stool": 10,
    "spongy_bone": 190,
    "bone": 420,
    "disc": 85,
    "spinal_cord": 38,
    "couch": -120,
}
_PHASES: tuple[Phase, ...] = ("native", "arterial", "portal_venous")


def tissue_hu(generator: np.random.Generator, phase: Phase, contrast: float) -> dict[str, float]:
    """Mean HU of each tissue in one patient.

    Soft tissues differ from muscle by `contrast` times the usual; each tissue's difference varies by about a tenth
    from patient to patient, and all vessels and organs share the patient's strength of enhancement.
    """
    native, enhanced = 0, _PHASES.index(phase)
    strength = float(np.clip(generator.normal(1, 0.1), 0.75, 1.3))
    values = {}
    for tissue, by_phase in _SOFT_TISSUE.items():
        usual = by_phase[native] + strength * (by_phase[enhanced] - by_phase[native])
        own = generator.normal(0, 4) + 0.05 * generator.normal() * (usual - MUSCLE_HU)
        values[tissue] = MUSCLE_HU + contrast * (usual + own - MUSCLE_HU)
    for tissue, usual in _OTHER.items():
        values[tissue] = usual + generator.normal(0, 0.03) * abs(usual)
    return values


def add_texture(generator: np.random.Generator, hu: Array, grid: Grid) -> None:
    """Uneven enhancement of soft tissue, some HU over some centimetres, in place (D H W)."""
    soft = np.clip((hu + 30) / 60, 0, 1)
    hu += soft * (4 * smooth_field(generator, grid, (25, 90)) + 3 * smooth_field(generator, grid, (10, 25)))


def add_noise(generator: np.random.Generator, hu: Array, deviation: float) -> None:
    """Image noise of the given standard deviation in HU, correlated between neighbours in a slice, in place (D H W)."""
    deviation = deviation * float(np.exp(generator.normal(0, 0.25)))
    noise = generator.standard_normal(hu.shape, dtype=np.float32)
    width = generator.uniform(0.4, 0.8)
    noise = gaussian_filter(noise, (0.25 * width, width, width), truncate=2.5)
    noise *= np.float32(deviation / max(float(noise.std()), 1e-6))
    # Air and lung let more photons through, so they are less noisy than the belly.
    hu += noise * np.clip((hu + 1250) / 1250, 0.3, 1)
