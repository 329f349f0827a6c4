"""The list of planted bugs follows the code: each is planted in exactly one place."""

import pytest

from tests.plant_bugs import BUGS, ROOT


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_bug_has_exactly_one_place(bug):
    text = (ROOT / "pipeline_lib" / bug.file).read_text(encoding="utf-8")
    assert text.count(bug.right) == 1
