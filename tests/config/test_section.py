"""Keys that were renamed are accepted under their old names, with one notice."""

from typing import ClassVar

import pytest
from pydantic import ValidationError

from pipeline_lib.config.section import Section


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
