"""Methods and networks as configs of version 0.1 wrote them: rejected with the new form spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

_NETWORKS = ("swin_unetr", "dodnet")
_SUPERVISED: dict[str, dict[str, Any]] = {
    "cross_entropy": {"dice": None},
    "dice": {"cross_entropy": False},
    "cross_entropy_and_dice": {},
}
_THRESHOLDS = ("positive_above", "negative_below")
_OF_THE_TEACHER = ("warmup_fraction", "rampup_fraction", "exclusive_organs")
_KEPT = {
    "labels_alone": ("network", "encoder", "labelled_cases"),
    "mean_teacher": ("network", "encoder", "labelled_cases", "consistency_weight", *_OF_THE_TEACHER),
    "latent_class": (
        *("network", "encoder", "labelled_cases", "latent_weight", "consistency_weight", "sharpening_temperature"),
        *_OF_THE_TEACHER,
    ),
}
"""Kind of method → its keys that are spelled as they were."""


def reject_old_networks(networks: Any) -> Any:
    """`networks` as it is; ValueError if it is a section with a fixed key for each network."""
    if isinstance(networks, Mapping):
        for name, entry in networks.items():
            if name in _NETWORKS and isinstance(entry, Mapping) and "kind" not in entry:
                new = {name: {"kind": name, **entry}}
                raise ValueError(f"`networks` is now a mapping of names to networks, each with a kind: {_line(new)}")
    return networks


def reject_old_methods(methods: Any) -> Any:
    """`methods` as it is; ValueError if one of them has no `kind`."""
    if isinstance(methods, Mapping):
        for name, entry in methods.items():
            if isinstance(entry, Mapping) and "kind" not in entry:
                raise ValueError(f"method {name} has no `kind`; write {_line({name: _with_kind(entry)})}")
    return methods


def _with_kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    latent, consistency = entry.get("latent", "none"), entry.get("consistency", "none")
    kind = "latent_class" if latent != "none" or consistency == "ambiguous" else "labels_alone"
    if kind == "labels_alone" and consistency == "all":
        kind = "mean_teacher"
    new: dict[str, Any] = {"kind": kind, "network": "swin_unetr"}
    new |= {key: entry[key] for key in _KEPT[kind] if key in entry}
    if _SUPERVISED.get(entry.get("supervised", "")):
        new["supervised"] = _SUPERVISED[entry["supervised"]]
    if kind == "latent_class":
        if latent == "none":
            new["latent_weight"] = 0
        if consistency == "none":
            new["consistency"] = False
        thresholds = {key: entry[key] for key in _THRESHOLDS if entry.get(key) is not None}
        if thresholds:
            new["decision"] = thresholds
    return new


def _line(content: Mapping[str, Any]) -> str:
    """`content` as YAML on a single line."""
    return yaml.safe_dump(dict(content), default_flow_style=True, sort_keys=False, width=10**6).strip()
