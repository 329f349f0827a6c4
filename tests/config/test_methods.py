"""config/methods.yaml lays every method of config/mots.yaml over phantoms and real CT, with smaller networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.schema import Config

CONFIGS = Path(__file__).parents[2] / "config"
SIZES = {"feature_size", "depths", "num_heads", "window_size", "width"}


@pytest.fixture(scope="module")
def published() -> Config:
    return load_config(CONFIGS / "mots.yaml")


@pytest.fixture(scope="module", params=["config", "openkbp"])
def small(request: pytest.FixtureRequest) -> Config:
    content: dict[str, object] = {}
    for name in (request.param, "methods"):
        update_config(content, yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")))
    return load_config(content)


def test_every_method_of_mots_is_compared(published, small):
    assert sorted(small.compare) == sorted(published.methods)


def test_a_method_has_the_settings_of_mots_but_for_its_encoder(published, small):
    for name in small.compare:
        mine, its = small.methods[name], published.methods[name]
        assert mine.model_copy(update={"encoder": its.encoder}) == its, name


def test_a_network_is_that_of_mots_in_small(published, small):
    for name in small.compare:
        mine, its = (config.networks[config.methods[name].network] for config in (small, published))
        assert mine.model_dump(exclude=SIZES) == its.model_dump(exclude=SIZES), name
        if mine.kind == "swin_unetr":
            assert mine.feature_size * 4 == its.feature_size, name
        else:
            assert mine.width * 4 == its.width, name
