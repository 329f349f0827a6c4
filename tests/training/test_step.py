"""One training step against its formulas: order, loss scale, clipping, decay, progress, and what a resume restores."""

import copy
from dataclasses import replace

import pytest
import torch

from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.training.distributed import Distributed
from pipeline_lib.training.step import Stepper
from tests.support.tiny_training import Tiny

CPU = torch.device("cpu")
STEPS = 10


def stepper_of(tiny: Tiny, task=None, scale: float | None = None, **optimisation) -> Stepper:
    """A stepper with learning rate 0.01 from the first step on; `scale` turns a loss scaler on, which a CPU has not."""
    made = Stepper(
        task or tiny.task(),
        tiny.view_maker(),
        Optimisation(epochs=8, batch_size=tiny.batch_size, learning_rate=1e-2, **optimisation),
        tiny.execution,
        Distributed(0, 1, CPU),
        steps=STEPS,
        title="tiny",
    )
    if scale is not None:
        made.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    return made


def crops(tiny: Tiny, step: int = 0):
    return [tiny.reader().read(sample) for sample in tiny.plan.samples(step, 0, 1)]


def gradients_at_the_update(stepper: Stepper) -> list[torch.Tensor]:
    """Filled with the student's gradients when the optimiser is about to use them."""
    found: list[torch.Tensor] = []
    stepper.optimiser.register_step_pre_hook(
        lambda *_: found.extend(parameter.grad.clone() for parameter in stepper.parameters)
    )
    return found


def naive_gradients(tiny: Tiny, step: int = 0) -> list[torch.Tensor]:
    """Gradient of the mean loss over the batch, from autograd alone."""
    task = tiny.task()
    batch = tiny.view_maker().batch(crops(tiny, step))
    loss = task.losses(task.networks, batch, step / STEPS).total.mean()
    return list(torch.autograd.grad(loss, list(task.student.parameters())))


def norm_of(tensors) -> float:
    return sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5


@pytest.mark.parametrize("scale", [None, 2.0**10])
@pytest.mark.parametrize("share", [0.25, 4.0])
def test_gradients_are_clipped_to_their_norm_whatever_the_loss_scale(tiny, scale, share):
    """A quarter of the gradient's norm as a limit bites, four times it does not."""
    expected = naive_gradients(tiny)
    limit = share * norm_of(expected)
    stepper = stepper_of(tiny, scale=scale, max_grad_norm=limit)
    found = gradients_at_the_update(stepper)
    assert stepper.train_step(0, crops(tiny), stop_asked=False).applied
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other * min(1.0, share), rtol=1e-4, atol=1e-7)


def test_the_first_step_is_adamws_with_the_configs_decay(tiny):
    """With bias correction, Adam's first step is lr·g/(|g| + ε), and decay takes lr·decay of each weight."""
    decay = 0.3
    stepper = stepper_of(tiny, weight_decay=decay)
    before = [parameter.detach().clone() for parameter in stepper.parameters]
    stepper.train_step(0, crops(tiny), stop_asked=False)
    for start, gradient, now in zip(before, naive_gradients(tiny), stepper.parameters, strict=True):
        expected = start * (1 - 1e-2 * decay) - 1e-2 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(now.detach(), expected, rtol=1e-5, atol=2e-5)


def test_the_task_is_told_which_share_of_the_training_is_done(tiny):
    task, told = tiny.task(), []
    losses = task.losses
    task.losses = lambda networks, batch, progress: told.append(progress) or losses(networks, batch, progress)
    stepper = stepper_of(replace(tiny, gradient_accumulation_steps=2), task)
    for step in (0, 3, 9):
        stepper.train_step(step, crops(tiny, step), stop_asked=False)
    assert told == pytest.approx([0.0, 0.0, 0.3, 0.3, 0.9, 0.9])


def test_the_teacher_follows_the_student_after_its_update(tiny):
    """After two steps with a fast start the teacher is the plain mean of the student's three states."""
    task = tiny.task()
    stepper = stepper_of(tiny, task)
    students = [[parameter.detach().clone() for parameter in task.student.parameters()]]
    for step in (0, 1):
        stepper.train_step(step, crops(tiny, step), stop_asked=False)
        students.append([parameter.detach().clone() for parameter in task.student.parameters()])
    for *states, teacher in zip(*students, task.teacher.network.parameters(), strict=True):
        assert not torch.equal(states[0], states[1])
        torch.testing.assert_close(teacher, sum(states) / 3)


@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_skipped_step_moves_neither_student_nor_teacher(tiny, scale):
    task = tiny.task()
    stepper = stepper_of(tiny, task, scale)
    stepper.train_step(0, crops(tiny), stop_asked=False)
    before = {name: value.clone() for name, value in all_weights(task).items()}
    broken = task.student.register_forward_hook(lambda _, __, logits: logits * torch.nan)
    assert not stepper.train_step(1, crops(tiny, 1), stop_asked=False).applied
    broken.remove()
    assert stepper.skipped == 1
    assert task.teacher.updates == 1
    for name, value in all_weights(task).items():
        assert torch.equal(value, before[name]), name
    assert stepper.train_step(2, crops(tiny, 2), stop_asked=False).applied
    assert task.teacher.updates == 2


def all_weights(task) -> dict[str, torch.Tensor]:
    return {
        f"{who}.{name}": value
        for who, network in (("student", task.student), ("teacher", task.teacher.network))
        for name, value in network.state_dict().items()
    }


def test_an_overflow_of_the_loss_scale_is_not_the_trainings_fault(tiny):
    """float16's scale starts too high and is halved until it fits: such steps are not counted as skipped."""
    stepper = stepper_of(tiny, scale=2.0)
    stepper.parameters[0].register_hook(lambda gradient: gradient * torch.inf)
    for scale, skipped in ((1.0, 0), (0.5, 1)):
        report = stepper.train_step(0, crops(tiny), stop_asked=False)
        assert (report.applied, stepper.skipped) == (False, skipped)
        assert stepper.scaler.get_scale() == scale


def test_a_training_goes_on_in_float16_that_began_without_a_loss_scale(tiny):
    began, goes_on = stepper_of(tiny), stepper_of(tiny, scale=16.0)
    goes_on.load_state_dict(copy.deepcopy(began.state_dict()))
    assert goes_on.scaler.get_scale() == 16


@pytest.mark.parametrize(("given", "expected"), [(1, 4), (2, 2)], ids=["as before", "edited"])
def test_a_batch_that_was_divided_stays_so_unless_the_config_says_otherwise(tiny, given, expected):
    divided = stepper_of(tiny)
    divided.parts = 4
    resumed = stepper_of(replace(tiny, gradient_accumulation_steps=given))
    resumed.load_state_dict(copy.deepcopy(divided.state_dict()))
    assert resumed.parts == expected


def test_a_resumed_stepper_has_the_scaler_and_the_count_of_skipped_steps(tiny):
    """The scale doubles after two good steps: one before and one after the resume make it double at the right step."""
    first = stepper_of(tiny, scale=2.0**4)
    first.skipped = 2
    first.train_step(0, crops(tiny), stop_asked=False)
    first.train_step(1, crops(tiny, 1), stop_asked=False)
    first.train_step(2, crops(tiny, 2), stop_asked=False)
    second = stepper_of(tiny, scale=2.0**4)
    # A checkpoint holds copies.
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.skipped == 2
    assert second.scaler.state_dict() == first.scaler.state_dict()
    assert second.scaler.get_scale() == 2.0**5
    for stepper in (first, second):
        stepper.train_step(3, crops(tiny, 3), stop_asked=False)
        assert stepper.scaler.get_scale() == 2.0**6
    for name, value in all_weights(first.task).items():
        assert torch.equal(value, all_weights(second.task)[name]), name
