"""The mean teacher: an exact moving average that never trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.config.method_settings import Teacher
from pipeline_lib.methods.ema_teacher import EmaTeacher


class Student(nn.Module):
    """Has everything that could go wrong: BatchNorm statistics, dropout, an integer table, a frozen parameter."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        self.register_buffer("table", torch.arange(5))
        self.body[0].bias.requires_grad_(False)

    def forward(self, values):
        return self.body(values)


def wander(student, generator):
    """Change parameters, statistics and table as a training step might."""
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    student.train()(torch.randn(8, 3, generator=generator))
    student.table += 1


def numbers(network):
    return {name: value.detach().double().numpy().copy() for name, value in network.named_parameters()}


@pytest.mark.parametrize("fast_start", [True, False])
@pytest.mark.parametrize("decay", [0.999, 0.6, 0.0])
def test_parameters_are_the_moving_average(decay, fast_start):
    generator = torch.Generator().manual_seed(1)
    student = Student()
    teacher = EmaTeacher(student, Teacher(decay=decay, fast_start=fast_start))
    expected = numbers(student)
    for step in range(1, 8):
        wander(student, generator)
        teacher.update(student)
        alpha = min(1 - 1 / (step + 1), decay) if fast_start else decay
        for name, value in numbers(student).items():
            expected[name] = alpha * expected[name] + (1 - alpha) * value
    for name, value in numbers(teacher.network).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-6)


def test_a_fast_start_is_the_plain_mean_at_first():
    generator = torch.Generator().manual_seed(2)
    student = Student()
    teacher = EmaTeacher(student, Teacher(decay=0.999))
    seen = [numbers(student)]
    for _ in range(4):
        wander(student, generator)
        teacher.update(student)
        seen.append(numbers(student))
    for name, value in numbers(teacher.network).items():
        np.testing.assert_allclose(value, np.mean([one[name] for one in seen], axis=0), rtol=1e-5, atol=1e-6)


def test_buffers_are_the_students():
    generator = torch.Generator().manual_seed(3)
    student = Student()
    teacher = EmaTeacher(student, Teacher())
    wander(student, generator)
    teacher.update(student)
    for (name, mine), students in zip(teacher.network.named_buffers(), student.buffers(), strict=True):
        assert torch.equal(mine, students), name
        assert mine.data_ptr() != students.data_ptr(), name


def test_the_teacher_evaluates_and_never_trains():
    generator = torch.Generator().manual_seed(4)
    student = Student()
    student.train()
    teacher = EmaTeacher(student, Teacher())
    assert student.training
    assert student.body[3].weight.requires_grad
    assert not any(module.training for module in teacher.network.modules())
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    patch = torch.randn(6, 3, generator=generator)
    before = teacher.network.body[1].running_mean.clone()
    first, second = teacher.network(patch), teacher.network(patch)
    assert torch.equal(first, second)
    assert torch.equal(teacher.network.body[1].running_mean, before)
    assert not first.requires_grad
    student(patch).sum().backward()
    teacher.update(student)
    assert all(parameter.grad is None for parameter in teacher.network.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())


def test_the_student_is_left_alone():
    student = Student()
    teacher = EmaTeacher(student, Teacher(decay=0.5, fast_start=False))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with torch.no_grad():
        for parameter in teacher.network.parameters():
            parameter += 1
    teacher.update(student)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
