"""A loss or a gradient that is NaN or infinite has no effect on weights, statistics or the optimizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simplematch.training import train
from simplematch.training.guard import StepGuard
from simplematch.training.losses import PairLosses

from .test_training import configuration, weights

BAD = [torch.nan, torch.inf, -torch.inf]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def run(
    model: nn.Module, guard: StepGuard, optimizer: torch.optim.Optimizer, *batches: Tensor, extra: float = 0
) -> Tensor:
    """One step over some batches."""
    for batch in batches:
        guard.begin()
        loss = model(batch).square().mean() + extra
        loss.backward()
        guard.add_loss(loss)
    mark = guard.end()
    optimizer.step()
    optimizer.zero_grad()
    return mark


def batch(seed: int) -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


@pytest.mark.parametrize("value", BAD)
def test_the_first_step_leaves_all_as_it_was(value: float) -> None:
    model = network()
    optimizer, before = torch.optim.Adam(model.parameters()), state(model)
    bad = batch(0)
    bad[3, 1] = value
    assert run(model, StepGuard(model), optimizer, bad).isnan()
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name]), name


@pytest.mark.parametrize("place", [0, 1])
def test_one_bad_batch_of_a_step_is_enough(place: int) -> None:
    """The statistics of the step's other batches are restored too."""
    model = network()
    optimizer, before = torch.optim.Adam(model.parameters()), state(model)
    batches = [batch(0), batch(1)]
    batches[place][0, 0] = torch.nan
    assert run(model, StepGuard(model), optimizer, *batches).isnan()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_loss_without_a_bad_gradient_counts() -> None:
    model = network()
    before = state(model)
    assert run(model, StepGuard(model), torch.optim.Adam(model.parameters()), batch(0), extra=torch.inf).isnan()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_gradient_without_a_bad_loss_counts() -> None:
    model = network()
    before = state(model)
    model[2].weight.register_hook(lambda gradient: gradient * torch.inf)
    assert run(model, StepGuard(model), torch.optim.Adam(model.parameters()), batch(0)).isnan()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items() if "2." in name)


def test_good_steps_are_bitwise_those_without_a_guard() -> None:
    guarded, plain = network(), network()
    first, second = (torch.optim.Adam(x.parameters(), 0.1) for x in (guarded, plain))
    guard = StepGuard(guarded)
    for seed in range(3):
        assert run(guarded, guard, first, batch(seed)) == 0
        plain(batch(seed)).square().mean().backward()
        second.step()
        second.zero_grad()
    assert all(torch.equal(x, guarded.state_dict()[name]) for name, x in plain.state_dict().items())


def test_training_goes_on_after_a_bad_step() -> None:
    model = network()
    guard, optimizer = StepGuard(model), torch.optim.Adam(model.parameters(), 0.1)
    marks = [float(run(model, guard, optimizer, batch(s) * (torch.nan if s == 1 else 1))) for s in range(3)]
    assert marks[0] == marks[2] == 0 and math.isnan(marks[1])
    assert all(x.isfinite().all() for x in model.state_dict().values())
    assert all(x.isfinite().all() for kept in optimizer.state.values() for x in kept.values())


@pytest.mark.parametrize("bad", [True, False])
def test_without_reading_the_flag_the_step_is_the_same(bad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where gradients and statistics are always written."""
    model = network()
    guard, before = StepGuard(model), state(model)
    model(batch(5))  # other statistics
    moved = state(model)
    guard.begin()
    model(batch(0)).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    after = state(model)
    guard._undo(torch.tensor(bad), [p.grad for p in model.parameters() if p.grad is not None])
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient * 0 if bad else gradient)
    expected = moved if bad else after
    assert all(torch.equal(x, expected[name]) for name, x in model.state_dict().items())
    assert not torch.equal(moved["1.running_mean"], before["1.running_mean"])


def test_another_process_has_the_bad_loss() -> None:
    model = network()
    before = state(model)
    guard = StepGuard(model, total=lambda mine: mine + 1)
    assert run(model, guard, torch.optim.Adam(model.parameters()), batch(0)).isnan()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_gradient_scaler_sees_the_infinities() -> None:
    """The scaler lowers its scale for infinities; zero gradients would hide them."""
    model = network()
    guard, before = StepGuard(model, scaled=True), state(model)
    guard.begin()
    loss = model(batch(0) * torch.inf).mean()
    loss.backward()
    guard.add_loss(loss)
    assert guard.end().isnan()
    assert any(not p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def _nan_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = PairLosses.forward, iter(range(1, 100))

    def broken(module: PairLosses, source: Tensor, *inputs: Any) -> list[Tensor]:
        return forward(module, source * (torch.nan if next(calls) == step else 1), *inputs)

    monkeypatch.setattr(PairLosses, "forward", broken)


def test_a_run_outlives_a_bad_step(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and state stay finite, and a resumed run continues."""
    _nan_at(2, monkeypatch)
    result = train(configuration(photographs, tmp_path, max_steps=4))
    assert [math.isfinite(x) for x in result.losses] == [True, False, True, True]
    assert all(x.isfinite().all() for x in weights(tmp_path).values())
    result = train(configuration(photographs, tmp_path), resume=True)
    assert result.step == 6 and all(map(math.isfinite, result.losses))
