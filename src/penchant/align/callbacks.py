"""What a run shows while it trains, who looks at its policy meanwhile, and how it is stopped."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import transformers
from tqdm import tqdm

from penchant.align.checkpoints import checkpoint_at
from penchant.align.processes import largest
from penchant.errors import SettingsError


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


def log_spaced(n_steps: int, n: int) -> list[int]:
    """At most n different steps from 0 to the last, as evenly spaced in their logarithm as whole numbers allow.

    Args:
        n_steps: the last step.
        n: how many, at least 2.

    >>> log_spaced(300, 6)
    [0, 1, 4, 17, 72, 300]
    """
    shares = [place / max(1, n - 2) for place in range(n - 1)]
    return sorted({0, n_steps, *(round(math.exp(share * math.log(n_steps))) for share in shares)})


class Watching(transformers.TrainerCallback):
    """Looks at the policy while it trains: before the first step, after the last, and densely early in between.

    What is computed is the caller's business (`penchant.evaluate.values.Recorder` reads values, for one); it is called
    in the first process only, without gradients and dropout, and must leave torch's random numbers as they are. A
    resumed run looks at the steps that are left.

    Args:
        look: called with the number of steps taken.
        n: how often, at most; at least 2.
        steps: at which instead.

    Raises:
        SettingsError: n is below 2.
    """

    def __init__(self, look: Callable[[int], None], *, n: int = 15, steps: Collection[int] | None = None) -> None:
        if n < 2:
            raise SettingsError(f"Watching needs n >= 2, a look before and one after: got {n!r}.")
        self.look, self.n, self.steps = look, n, steps

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Choose the steps, and look before the first."""
        self.chosen = set(log_spaced(state.max_steps, self.n) if self.steps is None else self.steps)
        if state.global_step == 0:
            self._look(args, 0, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Look, if it is time."""
        self._look(args, state.global_step, model)

    def _look(self, args: Any, step: int, model: Any) -> None:
        if step not in self.chosen or args.process_index != 0:
            return
        was_training, cached = model.training, model.config.use_cache
        model.config.use_cache = True  # sampling needs it; training has switched it off
        model.eval()
        try:
            with torch.no_grad():
                self.look(step)
        finally:
            model.train(was_training)
            model.config.use_cache = cached


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
