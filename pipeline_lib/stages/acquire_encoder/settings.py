"""What stage acquire_encoder depends on and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.schema import Config
from ...config.section import Section
from ...config.text import TextEncoder
from ..slices import text_encoder

VERSION = 1


class Settings(Section):
    """The text encoder whose weights are fetched beforehand."""

    name: str
    encoder: TextEncoder


@dataclass(frozen=True)
class Inputs:
    """None: everything comes from the settings."""


@dataclass(frozen=True)
class Outputs:
    """`weights` is the folder with the model's files."""

    weights: Path


def settings_from(config: Config, encoder: str) -> Settings:
    """One text encoder."""
    return Settings(name=encoder, encoder=text_encoder(config, encoder))
