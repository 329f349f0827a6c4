import pytest

from tests.support.tiny_training import Tiny, in_processes, write_cases


@pytest.fixture(scope="session")
def tiny_cases(tmp_path_factory):
    """Five tiny cases with pools and scores."""
    return write_cases(tmp_path_factory.mktemp("volumes"))


@pytest.fixture
def tiny(tiny_cases, tmp_path):
    """A training that has not started."""
    return Tiny(tiny_cases, tmp_path / "work")


@pytest.fixture(scope="session")
def undisturbed(tiny_cases, tmp_path_factory):
    """The same training, run from start to end without anything happening to it."""
    training = Tiny(tiny_cases, tmp_path_factory.mktemp("undisturbed"))
    assert in_processes(training.run) == [0]
    return training


@pytest.fixture(scope="session")
def undisturbed_20(tiny_cases, tmp_path_factory):
    """A training of twenty steps in one process."""
    training = Tiny(tiny_cases, tmp_path_factory.mktemp("undisturbed_20"), epochs=16)
    assert in_processes(training.run) == [0]
    return training
