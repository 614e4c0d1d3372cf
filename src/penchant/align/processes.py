"""What processes that train together agree on; alone, each of these does nothing."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from penchant.errors import PenchantError

Found = TypeVar("Found")


def of_first(find: Callable[[], Found]) -> Found:
    """What the first process finds, for all of them; only it looks.

    Raises:
        PenchantError: what it raised, in all of them, so that none waits for the others.
    """
    if not dist.is_initialized():
        return find()
    answer: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            answer[0] = find()
        except PenchantError as error:
            answer[1] = error
    dist.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    found: Found = answer[0]
    return found


def largest(numbers: list[int], device: torch.device) -> list[int]:
    """Of each number, the largest that any process has."""
    if not dist.is_initialized():
        return numbers
    told = torch.tensor(numbers, device=device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return [int(number) for number in told.tolist()]


def meet() -> None:
    """Wait until all have come here."""
    if dist.is_initialized():
        dist.barrier()
