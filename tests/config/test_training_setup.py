"""The facts that a report states about the trainings of a config."""

from pathlib import Path

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.training_setup import training_setup

BASE = Path(__file__).parents[2]


def test_the_setup_has_the_size_of_every_compared_network_in_words():
    setup = training_setup(load_config(BASE / "tests/configs/tiny.yaml", BASE))
    assert (setup.batch_size, setup.patch_voxels, setup.spacing_mm) == (3, (64, 32, 32), (8, 8, 8))
    assert set(setup.networks) == {"swin_unetr", "dodnet"}
    assert setup.networks["swin_unetr"].startswith("feature_size 12, depths 1-1-1-1")
    assert setup.networks["dodnet"] == "width 8"
