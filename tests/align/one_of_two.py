"""One of two processes that train together: plain data parallelism first, then sharded by FSDP2.

Started by test_processes.py with the environment that torchrun would set, and a folder to write to. The method that
dies is for its test of the real command.
"""

import os
import signal
import sys
from pathlib import Path

import torch.distributed as dist
from tiny_language import TinyPolicy, comparisons
from torch.distributed.tensor import DTensor

from penchant.align import DPO, TrainerSettings, train


def run(folder: Path, **changes):
    settings = TrainerSettings(steps=3, examples_per_batch=7, learning_rate=3e-3, seed=1, eval_steps=3, **changes)
    policy = TinyPolicy(tied=True)  # one weight by two names: shared out once, saved once
    held_out = comparisons(5, seed=4)
    return policy, train(
        DPO(beta=0.5), policy, comparisons(), settings=settings, folder=folder, held_out=held_out, progress=False
    )


class DiesOnce(DPO):
    """DPO whose second process is killed in its third step, the first time."""

    calls = 0

    def loss(self, *arguments):
        self.calls += 1
        died = Path(os.environ["PENCHANT_CACHE"], "died")
        if os.environ.get("RANK") == "1" and self.calls == 3 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(*arguments)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    _, result = run(folder / "parallel")
    (folder / f"held-out-{dist.get_rank()}").write_text(repr(result.held_out_loss))
    policy, _ = run(folder / "sharded", fsdp={})
    if not all(isinstance(p, DTensor) for p in policy.model.parameters()):
        raise SystemExit("the model was not sharded")
    dist.destroy_process_group()
