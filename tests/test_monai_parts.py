"""Stages start without what they do not use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from pipeline_lib.monai_parts import left_out


def test_packages_that_are_left_out_are_missing_inside_only(tmp_path, monkeypatch):
    for name in ("imported_already", "imported_later"):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    first = import_module("imported_already")
    with left_out("imported_already", "imported_later"):
        assert import_module("imported_already") is first
        with pytest.raises(ImportError):
            import_module("imported_later")
    assert import_module("imported_later").__name__ == "imported_later"


def test_the_report_starts_without_torch_and_monai_without_packages_for_its_other_parts():
    code = """if True:
        import sys
        import pipeline_lib.stages.write_report.run
        print(*{"torch", "monai"} & set(sys.modules))
        import pipeline_lib.monai_parts
        print(*{"torch._dynamo", "torchvision", "transformers", "sklearn"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
