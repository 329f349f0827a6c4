"""The demo's config, with labels of all cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEMO = Path(__file__).parents[2] / "config" / "config.yaml"


def with_all_labels() -> dict[str, Any]:
    """config/config.yaml without its methods that learn from few cases; `baseline` and `latent_class` are compared."""
    content = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    content["methods"] = {name: keys for name, keys in content["methods"].items() if "labelled_cases" not in keys}
    return content | {"compare": ["baseline", "latent_class"]}
