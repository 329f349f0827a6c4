"""Keys that were renamed are accepted under their old names, with one notice."""

import json
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError

from pipeline_lib.config.augmentation import StrongView, WeakView
from pipeline_lib.config.evaluation import Inference
from pipeline_lib.config.optimisation import Execution, Optimisation
from pipeline_lib.config.section import Section, text_without_defaults


class Boiler(Section):
    renamed: ClassVar = {"heat": "temperature"}
    temperature: int = 20
    pipes: tuple[int, int] = (1, 2)


class House(Section):
    boiler: Boiler = Boiler()


def test_an_old_name_is_read_as_the_new_one_with_one_notice(capsys):
    assert House.model_validate({"boiler": {"heat": 60}}).boiler == Boiler(temperature=60)
    assert Boiler.model_validate_json('{"heat": 60, "pipes": [3, 4]}') == Boiler(temperature=60, pipes=(3, 4))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "notice: the config key `heat` is now called `temperature`; the old name will be refused in the next version"
    ]


def test_present_names_are_read_silently_and_dumped(capsys):
    assert Boiler(temperature=60).model_dump() == {"temperature": 60, "pipes": (1, 2)}
    assert capsys.readouterr().err == ""


def test_an_old_name_beside_the_new_one_is_refused():
    with pytest.raises(ValidationError, match="`heat` is the old name of `temperature`: give only `temperature`"):
        Boiler.model_validate({"heat": 60, "temperature": 50})


def test_an_unknown_key_is_still_refused():
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Boiler.model_validate({"heat": 60, "colour": "red"})


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        (Optimisation, {"batch": 3, "gradient_clip": 0.5}, {"batch_size": 3, "max_grad_norm": 0.5}),
        (
            Execution,
            {"accumulation": 2, "data_workers": 0},
            {"gradient_accumulation_steps": 2, "num_workers": 0},
        ),
        (Inference, {"windows_at_once": 8, "mirror": True}, {"window_batch_size": 8, "flip_tta": True}),
        (WeakView, {"noise_deviation": [0, 0.2]}, {"noise_std": [0, 0.2]}),
        (
            StrongView,
            {"noise_deviation": [0, 0.2], "shift_deviation": 0.3},
            {"noise_std": [0, 0.2], "shift_std": 0.3},
        ),
    ],
)
def test_keys_of_the_last_version_are_understood(section, old, new):
    assert section.model_validate(old) == section.model_validate(new) != section()


class Gas(Section):
    kind: Literal["gas"] = "gas"
    litres: int = 5


class Oil(Section):
    kind: Literal["oil"] = "oil"
    litres: int = 5


class Cellar(Section):
    name: str
    tank: Annotated[Gas | Oil, Field(discriminator="kind")] = Gas()
    boilers: dict[str, Boiler] = Field(default={})


def test_without_defaults_a_section_says_what_it_adds_and_of_which_kind_it_is():
    def said(cellar: Cellar) -> dict:
        return json.loads(text_without_defaults(cellar))

    assert said(Cellar(name="old")) == {"name": "old"}
    assert said(Cellar(name="old", tank=Oil())) == {"name": "old", "tank": {"kind": "oil"}}
    warm = Cellar(name="old", boilers={"left": Boiler(), "right": Boiler(pipes=(1, 3))})
    assert said(warm)["boilers"] == {"left": {}, "right": {"pipes": [1, 3]}}
