"""What a run shows while it trains, and how it is stopped."""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import transformers
from tqdm import tqdm


class Bar(transformers.TrainerCallback):
    """A progress bar on stderr, so that stdout stays a program's own."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show it, where the run goes on from."""
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", file=sys.stderr)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move it."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Say how it goes."""
        shown = {name: logs[name] for name in ("loss", "eval_loss", "rewards/accuracies") if logs and name in logs}
        self.bar.set_postfix(shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave it on the screen."""
        self.bar.close()


class Interrupt(transformers.TrainerCallback):
    """Ctrl-C or SIGTERM ends the run after the current step with a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        """Listen, where Python lets us: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for known, handler in self.before.items():
            signal.signal(known, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Agree among the processes: if one was told to stop, all stop at the same step."""
        number = self.received or 0
        if dist.is_initialized():
            told = torch.tensor(number, device=args.device)
            dist.all_reduce(told, op=dist.ReduceOp.MAX)
            number = int(told)
        if number:
            self.received = number
            control.should_save = control.should_training_stop = True

    def raise_if_any(self, folder: Path, step: int, n_steps: int) -> None:
        """Tell the caller, once the checkpoint is written."""
        if self.received is None or step >= n_steps:
            return
        message = f"Stopped at step {step} of {n_steps}; the same call goes on from the checkpoint in {folder.name}."
        if self.received == signal.SIGTERM:
            print(message, file=sys.stderr)
            raise SystemExit(128 + self.received)
        raise KeyboardInterrupt(message)
