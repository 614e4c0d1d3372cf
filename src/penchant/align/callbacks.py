"""What a run shows while it trains, and how it is stopped."""

import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import transformers
from tqdm import tqdm

from penchant.align.checkpoints import checkpoint_at
from penchant.align.processes import largest


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


class Safekeeping(transformers.TrainerCallback):
    """When a checkpoint is due: after so many minutes without one, and before Ctrl-C or SIGTERM ends the run.

    The first signal lets the current step finish; a second one ends the run at once.

    Args:
        minutes: most time without a checkpoint; None for no limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self.received = 0
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

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock; find the best weights by their step, for the folder may have moved."""
        self.speaks = args.process_index == 0
        self._restart(args, state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock again."""
        self._restart(args, state)

    def _restart(self, args: Any, state: Any) -> None:
        self.since = time.monotonic()
        if state.best_global_step:
            state.best_model_checkpoint = str(checkpoint_at(Path(args.output_dir), state.best_global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Agree among the processes: what one was told or finds due, all do after the same step."""
        waited = time.monotonic() - self.since
        is_due = self.minutes is not None and waited >= 60 * self.minutes
        self.received, anywhere = largest([self.received, is_due], args.device)
        if self.received or (
            anywhere and state.global_step < state.max_steps
        ):  # after the last one the policy is saved
            control.should_save = True
        if self.received:
            control.should_training_stop = True
        if control.should_save:  # what the next line of the log is the mean of must not begin before the checkpoint
            control.should_log = True

    def raise_if_any(self, folder: Path, step: int, n_steps: int) -> None:
        """Tell the caller, once the checkpoint is written."""
        if not self.received or step >= n_steps:
            return
        message = f"Stopped at step {step} of {n_steps}; the same call goes on from the checkpoint in {folder.name}."
        if self.received == signal.SIGTERM:
            if self.speaks:
                print(message, file=sys.stderr)
            raise SystemExit(128 + self.received)
        raise KeyboardInterrupt(message)
