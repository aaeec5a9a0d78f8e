"""The training loop: epochs, learning rates, the log. The last epoch is used, nothing is selected."""

import csv
import io
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kanoclip.methods.base import Method, TrainingOptions
from kanoclip.training.data import TrainingData
from kanoclip.training.state import TrainingState
from kanoclip.types import InputError, progress

ADAM_BETAS = (0.5, 0.999)  # of APRIL-GAN and AnomalyCLIP, which all peers follow


def fit(method: Method, data: TrainingData, options: TrainingOptions, state: TrainingState) -> str:
    """Train a method on an auxiliary dataset.

    What is random in an epoch follows from the method's seed and the number of the epoch, so that a training which
    goes on after a kill ends with the same parameters.

    Args:
        method: freshly built, on its device.
        data: the auxiliary dataset.
        options: epochs, batch size and schedule.
        state: where to go on, and where to keep what is done.

    Returns:
        The text of train.csv: epoch, step, loss_total, one column a part, a norm of the gradient and a learning rate
        for each group of parameters, what the method has to say of itself, seconds.

    Raises:
        InputError: a loss is not finite.
    """
    optimizer = torch.optim.Adam(method.parameter_groups(), betas=ADAM_BETAS)
    highest = [group["lr"] for group in optimizer.param_groups]
    state.restore(method, optimizer)
    steps = options.epochs * math.ceil(len(data) / options.batch_size)
    started = time.perf_counter() - (state.rows[-1]["seconds"] if state.rows else 0.0)
    method.train()
    todo = range(state.epoch + 1, options.epochs + 1)
    for epoch in progress(todo, "train", len(todo)):
        order = torch.Generator().manual_seed(_seed_of(method.seed, epoch))
        torch.manual_seed(order.initial_seed())
        for chosen in torch.randperm(len(data), generator=order).split(options.batch_size):
            factor = rate_factor(len(state.rows), steps, options)
            for group, rate in zip(optimizer.param_groups, highest, strict=True):
                group["lr"] = rate * factor
            values = _step(method, data, chosen.tolist(), optimizer, epoch)
            position = {"epoch": epoch, "step": len(state.rows) + 1}
            state.rows.append({**position, **values, "seconds": time.perf_counter() - started})
        state.epoch = epoch
        state.save(method, optimizer)
    method.eval()
    return _as_csv(state.rows)


def rate_factor(step: int, steps: int, options: TrainingOptions) -> float:
    """What the learning rates are multiplied by: a linear warm-up, then constant or half a cosine down to 0.

    Args:
        step: steps done.
        steps: of the whole training.
        options: schedule and warm_up_steps.

    Returns:
        0..1.
    """
    warm_up = min(1.0, (step + 1) / (options.warm_up_steps + 1))
    decay = 0.5 * (1 + math.cos(math.pi * step / steps)) if options.schedule == "cosine" else 1.0
    return warm_up * decay


def _seed_of(seed: int, epoch: int) -> int:
    return seed * 100_003 + epoch  # seeds of a run are far fewer, and epochs fewer still


def _step(
    method: Method, data: TrainingData, rows: list[int], optimizer: torch.optim.Optimizer, epoch: int
) -> dict[str, float]:
    """One optimiser step; what train.csv says of it."""
    parts = method.losses(data.batch(rows))
    total = torch.stack(list(parts.values())).sum()
    losses = {f"loss_{name}": value.item() for name, value in {"total": total, **parts}.items()}
    if not torch.isfinite(total):
        names = ", ".join(data.images[row] for row in rows)
        raise InputError(f"loss is not finite in epoch {epoch}: {losses}; images: {names}")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    groups = {group["name"]: group for group in optimizer.param_groups}
    norms = {f"grad_norm_{name}": gradient_norm(group["params"]) for name, group in groups.items()}
    optimizer.step()
    rates = {f"lr_{name}": group["lr"] for name, group in groups.items()}
    return {**losses, **norms, **rates, **method.diagnostics()}


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """Euclidean norm of all gradients together; parameters without one count as 0."""
    squares = [parameter.grad.square().sum() for parameter in parameters if parameter.grad is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def _as_csv(rows: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_shortened(row) for row in rows)
    return text.getvalue()


def _shortened(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: f"{value:.6g}" for key, value in row.items()}
