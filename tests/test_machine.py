"""GPUs are counted without torch, as CUDA itself would show them."""

from __future__ import annotations

import pytest

from pipeline_lib.machine import available_memory, visible_gpus


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [(None, 4), ("", 0), ("-1", 0), ("2", 1), ("0,3", 2), ("0,1,2,3,4,5", 4), ("GPU-8932f937,GPU-12ab", 2)],
)
def test_gpus_hidden_by_the_user_are_not_counted(tmp_path, monkeypatch, allowed, expected):
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert visible_gpus(tmp_path) == expected


def test_a_container_may_take_less_than_the_machine_has(tmp_path):
    def group(most):
        (tmp_path / "memory.max").write_text(f"{most}\n")
        (tmp_path / "memory.current").write_text("9000\n")
        (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300\nactive_file 70\nfile 5000\n")
        return available_memory(tmp_path)

    assert group(10000) == 10000 - 9000 + 370
    assert group(100) == 0
    assert group("max") == pytest.approx(available_memory(tmp_path / "none"), rel=0.2)
