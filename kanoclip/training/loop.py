"""The training loop: phases, epochs, learning rates and the log. The last epoch is always used."""

import csv
import io
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kanoclip.methods.base import Batch, Method
from kanoclip.methods.contract import losses_of, phases_of
from kanoclip.methods.phases import Phase
from kanoclip.training.data import TrainingData
from kanoclip.training.state import TrainingState
from kanoclip.types import InputError, Progress

FP16_SCALE = 1024.0  # of the loss, where blocks run in fp16: small gradients would vanish there. A power of 2 is exact.


def fit(method: Method[Any], data: TrainingData, state: TrainingState) -> str:
    """Train a method on an auxiliary dataset, phase after phase.

    The random numbers of an epoch depend only on the method's seed and the epoch, so that an interrupted training can
    resume and ends with the same parameters.

    Args:
        method: newly built, on its device.
        data: the auxiliary dataset.
        state: the state to continue from and to update.

    Returns:
        The text of train.csv: phase, epoch, step, loss_total, one column per loss term, a gradient norm and a learning
        rate per parameter group, the method's diagnostics, seconds.

    Raises:
        InputError: the method breaks its contract (phases, losses), or a loss or a gradient is not finite.
    """
    phases = phases_of(method)
    started = time.perf_counter()
    state.restore(method, phases)
    seconds = state.rows[-1]["seconds"] if state.rows else 0.0
    for number in range(state.phase, len(phases)):
        before = sum(phase.epochs for phase in phases[:number])
        _run_phase(method, phases[number], before, data, state, started - seconds)
        state.leave_phase(method)
    for parameter in method.learned().values():
        parameter.requires_grad_(True)
    method.eval()
    return _as_csv(state.rows)


def _run_phase(
    method: Method[Any], phase: Phase, before: int, data: TrainingData, state: TrainingState, started: float
) -> None:
    """Run the remaining epochs of a phase; `before` epochs belong to earlier phases."""
    _freeze_others(method, phase)
    optimizer = phase.optimizer(phase.groups)
    state.restore_optimizer(optimizer)
    highest = [group["lr"] for group in phase.groups]
    taps = method.trains_on(method.options, method.backbone.shape) if phase.reads is None else phase.reads
    steps = phase.steps(len(data))
    method.train()
    name = f"{phase.name} {type(method).__name__} seed {method.seed}"
    with Progress(name, steps, "steps", state.step) as bar:
        for epoch in range(state.epoch + 1, phase.epochs + 1):
            order = torch.Generator().manual_seed(_seed_of(method.seed, before + epoch))
            torch.manual_seed(order.initial_seed())
            shuffled = torch.randperm(len(data), generator=order).split(phase.batch_size)
            rows = [chosen.tolist() for chosen in shuffled]
            for batch in data.batches(rows, taps, phase.augment, order.initial_seed()):
                factor = phase.schedule.factor(state.step, steps)
                for group, rate in zip(optimizer.param_groups, highest, strict=True):
                    group["lr"] = rate * factor
                values = _step(method, phase, batch, optimizer, before + epoch)
                position = {"phase": phase.name, "epoch": before + epoch, "step": len(state.rows) + 1}
                state.add({**position, **values, "seconds": time.perf_counter() - started})
                bar.update()
            state.epoch = epoch
            state.save(method, optimizer)


def _freeze_others(method: Method[Any], phase: Phase) -> None:
    """Require gradients only for the parameters that a phase optimises."""
    optimised = {id(parameter) for group in phase.groups for parameter in group["params"]}
    for parameter in method.learned().values():
        parameter.requires_grad_(id(parameter) in optimised)


def _seed_of(seed: int, epoch: int) -> int:
    return seed * 100_003 + epoch  # larger than any number of epochs, so that seeds do not collide


def _step(
    method: Method[Any], phase: Phase, batch: Batch, optimizer: torch.optim.Optimizer, epoch: int
) -> dict[str, float]:
    """Take one optimiser step and return its line of train.csv; all values are copied from the device at once."""
    parts = losses_of(method, phase, batch)
    total = torch.stack(list(parts.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    _backward(total, FP16_SCALE if method.backbone.tower.precision == torch.float16 else 1.0, optimizer)
    groups = {group["name"]: group for group in optimizer.param_groups}
    scalars = {f"loss_{name}": value.detach() for name, value in {"total": total, **parts}.items()}
    scalars |= {f"grad_norm_{name}": gradient_norm(group["params"]) for name, group in groups.items()}
    values = dict(
        zip(scalars, torch.stack([value.to(total).float() for value in scalars.values()]).tolist(), strict=True)
    )
    if not math.isfinite(values["loss_total"]):
        losses = {name: value for name, value in values.items() if name.startswith("loss_")}
        raise InputError(f"loss is not finite in epoch {epoch}: {losses}; images: {', '.join(batch.images)}")
    if not all(math.isfinite(values[f"grad_norm_{name}"]) for name in groups):
        hint = "; set precision: fp32 for the backbone" if method.backbone.tower.precision == torch.float16 else ""
        raise InputError(f"gradient is not finite in epoch {epoch}{hint}; images: {', '.join(batch.images)}")
    optimizer.step()
    return {**values, **{f"lr_{name}": group["lr"] for name, group in groups.items()}, **method.diagnostics()}


def _backward(loss: Tensor, scale: float, optimizer: torch.optim.Optimizer) -> None:
    """Compute the gradients of a loss; the blocks see them times `scale`."""
    (loss * scale).backward()
    if scale == 1.0:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.div_(scale)


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm () over all gradients; parameters without a gradient count as 0."""
    squares = [parameter.grad.square().sum() for parameter in parameters if parameter.grad is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; columns that a phase does not have are empty."""
    text = io.StringIO()
    last = "seconds"
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name != last]
    writer = csv.DictWriter(text, fieldnames=[*columns, last], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_shortened(row) for row in rows)
    return text.getvalue()


def _shortened(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else f"{value:.6g}" for key, value in row.items()}
