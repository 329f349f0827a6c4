import pytest

from pipeline_lib.stages.score_existence import run as existence
from pipeline_lib.stages.train_roi_aware import run as roi_aware
from tests.support.training_world import CASES, EXECUTION, build_world, existence_settings, roi_aware_settings


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Volumes and embeddings of tiny data sets."""
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def trained_roi_aware(world):
    """The outputs of stage train_roi_aware."""
    inputs, outputs = world.roi_aware_paths()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(world.root)
        roi_aware.run(roi_aware_settings(), EXECUTION, inputs, outputs)
    return outputs


@pytest.fixture(scope="session")
def scored_pools(world, trained_roi_aware):
    """The tables of stage score_existence, by data set."""
    for dataset in CASES:
        existence.run(existence_settings(dataset), EXECUTION, *world.existence_paths(dataset))
    return {dataset: world.existence(dataset) for dataset in CASES}
