"""Tasks for tests of work in parts: plain, torn, and deadly ones. Ray's workers import them from here."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penchant.errors import DataError


@dataclass(frozen=True)
class Squares:
    """The square of `x`; optionally a process that dies at a row, as many times as there are files to take away."""

    dies_at: int = -1
    lives: str = ""
    refuses: tuple[int, ...] = ()

    def ready(self):
        def work(rows, numbers):
            assert len(rows) == len(numbers)
            bad = sorted(set(self.refuses) & set(numbers.tolist()))
            if bad:
                raise DataError(f"{len(bad)} of {len(rows)} numbers have no square.")
            if self.dies_at in numbers and self.lives and Path(self.lives).exists():
                Path(self.lives).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            squares = pc.multiply(rows["x"], rows["x"])
            return rows.append_column("square", squares).append_column("row", pa.array(numbers)), {
                "rows seen": len(rows)
            }

        return work


@dataclass(frozen=True)
class Products:
    """Matrix products whose last bits depend on how many threads computed them."""

    size: int = 384

    def ready(self):
        import torch

        weights = torch.randn(self.size, self.size, generator=torch.Generator().manual_seed(0))

        def work(rows, numbers):
            start = torch.from_numpy(np.sin(np.outer(rows["x"].to_numpy(), np.arange(self.size))).astype(np.float32))
            products = start
            for _ in range(4):
                products = torch.tanh(products @ weights)
            flat = pa.array(products.numpy().ravel())
            return rows.append_column("y", pa.FixedSizeListArray.from_arrays(flat, self.size)), {}

        return work


@dataclass(frozen=True)
class Company:
    """How many rows of the same `who` were given together, and which came just before."""

    def ready(self):
        def work(rows, numbers):
            who = rows["who"].to_pylist()
            before = [
                next((int(numbers[j]) for j in range(i - 1, -1, -1) if who[j] == who[i]), -1) for i in range(len(who))
            ]
            together = rows.append_column("company", pa.array([who.count(name) for name in who]))
            return together.append_column("before", pa.array(before)).append_column("row", pa.array(numbers)), {}

        return work


@dataclass(frozen=True)
class Chain:
    """Several tasks one after the other on the same rows."""

    tasks: tuple

    def ready(self):
        works = [task.ready() for task in self.tasks]

        def work(rows, numbers):
            for one in works:
                rows, _ = one(rows, numbers)
            return rows, {}

        return work
