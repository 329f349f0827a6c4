"""The files of a volume, named where nothing that reads them need be imported."""

from __future__ import annotations

VOLUME_FILES = IMAGE, LABELS, RECORD = "image.b2nd", "labels.b2nd", "case.json"
