"""The one loop by which models of people that have no closed form are learnt: small nets on vectors, in seconds.

Same data, settings and seed give the same weights: what is random is drawn from a state of its own.

>>> weight = torch.zeros(1, requires_grad=True)
>>> descend(lambda rows: (weight - 3).square().sum(), [weight], 8, epochs=200, learning_rate=0.1).epochs
200
>>> round(weight.item(), 2)
3.0
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from penchant.errors import DataError

_WORTH_A_BAR = 200_000  # rows read in all; below it learning takes seconds


@dataclass(frozen=True)
class Descent:
    """How it went.

    Attributes:
        losses: mean loss of each epoch.
        measured: what `measure` gave after each epoch; empty without it.
        epochs: how many were run.
        best: the epoch whose weights were kept, counted from 0.
    """

    losses: tuple[float, ...]
    measured: tuple[float, ...]
    epochs: int
    best: int


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, torch draws from this seed; whoever draws outside notices nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def descend(
    loss: Callable[[Tensor], Tensor],
    parameters: Iterable[Any],
    n_rows: int,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
    measure: Callable[[], float] | None = None,
    patience: int | None = None,
    before_step: Callable[[int, int], None] | None = None,
) -> Descent:
    """Minimise a mean over rows by AdamW on shuffled batches.

    Args:
        loss: rows, int64[batch] -> their mean loss.
        parameters: tensors, or groups of them with settings of their own, as optimisers of torch take them.
        n_rows: rows there are.
        epochs: most passes over the rows.
        learning_rate: of AdamW, for groups without their own.
        weight_decay: likewise.
        batch_size: rows of a step.
        seed: of the order, and of whatever `loss` draws.
        measure: after each epoch, lower is better; at the end the weights of the best epoch are put back.
        patience: stop after so many epochs without a better measure.
        before_step: called with the number of the step and the number of all steps, for schedules.

    Raises:
        DataError: the loss is not finite.
    """
    groups = list(parameters)
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay)
    weights: list[Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]
    steps_an_epoch = max(1, math.ceil(n_rows / batch_size))
    losses: list[float] = []
    measured: list[float] = []
    kept: list[Tensor] = []
    with seeded(seed), tqdm(total=epochs, desc="learning", file=sys.stderr, disable=_is_short(epochs, n_rows)) as bar:
        for epoch in range(epochs):
            total = 0.0
            for place, rows in enumerate(torch.split(torch.randperm(n_rows), batch_size)):
                if before_step:
                    before_step(epoch * steps_an_epoch + place, epochs * steps_an_epoch)
                optimizer.zero_grad()
                value = loss(rows)
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += value.item() * len(rows)
            losses.append(total / max(1, n_rows))
            bar.update()
            if not math.isfinite(total):
                raise DataError(
                    f"The loss is {losses[-1]} in epoch {epoch + 1} of {epochs}, over {n_rows} rows: scale the "
                    "features, or lower learning_rate."
                )
            if measure is None:
                continue
            with torch.no_grad():
                measured.append(float(measure()))
            best = int(np.argmin(measured))
            if best == epoch:
                kept = [weight.detach().clone() for weight in weights]
            elif patience is not None and epoch - best >= patience:
                break
    for weight, value in zip(weights, kept, strict=False):
        weight.data.copy_(value)
    return Descent(
        tuple(losses), tuple(measured), len(losses), int(np.argmin(measured)) if measured else len(losses) - 1
    )


def _is_short(epochs: int, n_rows: int) -> bool | None:
    return True if epochs * n_rows < _WORTH_A_BAR else None  # None: shown on a terminal only


def arrays_of(module: nn.Module, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of a module as arrays, named `prefix.name`, as a model of people saves them."""
    return {f"{prefix}.{name}": weight.detach().cpu().numpy() for name, weight in module.state_dict().items()}


def put_back(module: nn.Module, arrays: Mapping[str, Any], prefix: str) -> None:
    """The reverse of `arrays_of`, into a module of the same shape."""
    found = {name: torch.from_numpy(np.array(arrays[f"{prefix}.{name}"])) for name in module.state_dict()}
    module.load_state_dict(found)


def multilayer(*widths: int, activation: Callable[[], nn.Module] = nn.GELU) -> nn.Sequential:
    """Linear layers of some widths, first what goes in, last what comes out, with an activation between each two."""
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(itertools.pairwise(widths)):
        layers += [activation()] if place else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)
