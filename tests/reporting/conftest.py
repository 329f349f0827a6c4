"""One small finished pipeline for all tests of the report."""

from __future__ import annotations

import pytest

from tests.reporting.stand_in import Workspace, build


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("pipeline"))
