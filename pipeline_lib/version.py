"""The versions of what is installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

DISTRIBUTION = "lacuna-segmentation"


def version() -> str:
    """The installed version; "unknown" in a checkout that is not installed."""
    return installed([DISTRIBUTION]).get(DISTRIBUTION, "unknown")


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Package → its version, of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = installed_version(package)
        except PackageNotFoundError:
            continue
    return found
