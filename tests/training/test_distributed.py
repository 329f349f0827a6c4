"""Where a training process runs, and what one knows of the others."""

import pytest
import torch

from pipeline_lib.config.optimisation import Execution
from pipeline_lib.networks.precision import autocast_type
from pipeline_lib.training.distributed import init_distributed
from tests.support.tiny_training import in_processes


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with init_distributed(Execution(device="cpu")) as distributed:
        assert (distributed.rank, distributed.world_size, distributed.is_main) == (0, 1, True)
        network = torch.nn.Linear(2, 2)
        assert distributed.wrap(network) is network
        assert distributed.all_reduce(torch.tensor([1.0, 2.0])).tolist() == [1, 2]
        assert distributed.all_gather("mine") == ["mine"]


def test_processes_sum_and_gather():
    def check() -> None:
        with init_distributed(Execution(device="cpu")) as distributed:
            assert distributed.is_main == (distributed.rank == 0)
            assert distributed.all_reduce(torch.tensor([float(distributed.rank)])).tolist() == [1]
            assert distributed.all_gather(distributed.rank) == [0, 1]

    assert in_processes(check, count=2) == [0, 0]


def test_processes_share_the_cores():
    def check() -> None:
        torch.set_num_threads(4)
        with init_distributed(Execution(device="cpu")):
            assert torch.get_num_threads() == 2

    assert in_processes(check, count=2) == [0, 0]


@pytest.mark.parametrize(("amx", "avx"), [(True, True), (False, True), (False, False)])
def test_auto_precision_asks_the_hardware(monkeypatch, amx, avx):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert autocast_type("auto", torch.device("cpu")) == (torch.bfloat16 if amx else torch.float32)
    predicting = autocast_type("auto", torch.device("cpu"), training=False)
    assert predicting == (torch.bfloat16 if amx or avx else torch.float32)
    assert autocast_type("auto", torch.device("cuda")) == torch.bfloat16
    assert autocast_type("float16", torch.device("cpu")) == torch.float16


def test_gradients_of_an_indexed_tensor_do_not_depend_on_the_threads_timing():
    """SwinUNETR's table of relative positions is indexed; its gradient was summed in a random order."""
    torch.use_deterministic_algorithms(False)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    table, places = torch.randn(343, 12), torch.randint(0, 343, (32768,))
    outer = torch.randn(len(places), 12)

    def gradient() -> torch.Tensor:
        leaf = table.clone().requires_grad_()
        leaf[places].backward(outer)
        return leaf.grad

    try:
        with init_distributed(Execution(device="cpu")):
            first = gradient()
            assert all(torch.equal(first, gradient()) for _ in range(40))
    finally:
        torch.set_num_threads(threads)
