"""Where a run goes on from: what its folder holds, and which of its checkpoints are whole.

A checkpoint is a policy as it saves itself, with the state of optimiser, schedule, random numbers and loop beside it.
It is written by `penchant.whole`, so that a kill leaves it there whole or not at all; one that was damaged later is
skipped for the one before, and the run says so.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from penchant.align.recipe import read_run, require_same
from penchant.errors import SettingsError, StorageError
from penchant.whole import damage, remove_folder

_PREFIX = "checkpoint-"
STATE = "trainer_state.json"
POLICY = "policy"  # folder of the trained weights


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        checkpoint: what it goes on from; None for the beginning.
        n_found: checkpoints in its folder.
        damaged: name -> what is wrong with a checkpoint, or the policy of a finished run, for which it was skipped.
        result: what an earlier call left, if it finished the run.
    """

    checkpoint: Path | None = None
    n_found: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] | None = None

    @property
    def step(self) -> int:
        """Optimiser steps that need not be taken again."""
        if self.result is not None:
            return int(self.result["steps"])
        return 0 if self.checkpoint is None else step_of(self.checkpoint)

    @property
    def stopped_early(self) -> bool:
        """Whether the run had already decided to stop when the checkpoint was written: all that is left is to save."""
        if self.checkpoint is None:
            return False
        early = _state(self.checkpoint).get("stateful_callbacks", {}).get("EarlyStoppingCallback")
        if not early:
            return False
        last = early[-1] if isinstance(early, list) else early
        patience, waited = (
            last["args"]["early_stopping_patience"],
            last["attributes"]["early_stopping_patience_counter"],
        )
        return bool(waited >= patience)

    def sentence(self, n_steps: int) -> str:
        """What is said about it."""
        if self.result is not None:
            return f"finished before, at step {self.step} of {n_steps}: nothing was trained"
        begun = "starts anew" if self.checkpoint is None else f"resumed from step {self.step} of {n_steps}"
        found = [f"{self.n_found} checkpoint{'s' * (self.n_found != 1)} found"] if self.n_found else []
        if self.damaged:
            why = "; ".join(f"{name}, because {wrong}" for name, wrong in self.damaged.items())
            found.append(f"{len(self.damaged)} damaged: skipped {why}")
        return begun + (f" ({', '.join(found)})" if found else "")


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint was written at."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def checkpoint_at(folder: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return folder / f"{_PREFIX}{step}"


def find_start(folder: Path, recipe: Mapping[str, Any], resume: bool | int) -> Start:
    """Where a run begins, and whether it may: nothing is written.

    Args:
        folder: of the run.
        recipe: from `recipe_of`.
        resume: True for what is finished, or the last whole checkpoint, or the beginning; a number for the checkpoint
            of that step; False for the beginning.

    Raises:
        SettingsError: the folder holds another run, or any where a new one was asked for, or no such checkpoint.
        StorageError: the checkpoint of the step is damaged.
    """
    steps, before = _steps(folder), read_run(folder)
    result = before.get("result")
    if steps or result:
        require_same(folder, before, recipe)
    if resume is False:
        if steps or result:
            raise SettingsError(
                f"{folder.name} already holds a run (checkpoints at steps {steps}). Resume it, or choose another "
                "folder."
            )
        return Start()
    if resume is not True:
        return _at(folder, steps, resume)
    damaged = {}
    if result:
        wrong = damage(folder / POLICY)
        if wrong is None:
            return Start(result=result)
        damaged[POLICY] = wrong
    for step in reversed(steps):
        wrong = _damage(folder, step)
        if wrong is None:
            return Start(checkpoint_at(folder, step), len(steps), damaged)
        damaged[checkpoint_at(folder, step).name] = wrong
    return Start(None, len(steps), damaged)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """A folder that no other process trains in meanwhile; a killed one holds it no longer.

    Raises:
        SettingsError: one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        hold: Any = FileLock(folder / ".lock").acquire(timeout=0)
    except NotImplementedError:  # a file system without locks
        hold = nullcontext()
    except Timeout as error:
        raise SettingsError(
            f"Another process is training in {folder}. Wait for it, stop it, or choose another folder."
        ) from error
    with hold:
        yield


def _at(folder: Path, steps: list[int], step: int) -> Start:
    if step not in steps:
        raise SettingsError(f"{folder.name} holds no checkpoint of step {step!r}; there are {steps}.")
    wrong = _damage(folder, step)
    if wrong is not None:
        raise StorageError(
            f"{checkpoint_at(folder, step)} is damaged: {wrong}. There are checkpoints of steps {steps}."
        )
    return Start(checkpoint_at(folder, step), len(steps))


def remove_old(folder: Path, n_kept: int | None, *, best: int | None = None, damaged: Collection[str] = ()) -> None:
    """Remove checkpoints that a new one makes needless.

    Args:
        folder: of the run; its newest checkpoint is whole.
        n_kept: how many of the newest stay; None keeps all.
        best: the step that stays besides, because its weights may be the ones to keep.
        damaged: names of those that no run can go on from; they go too.
    """
    if n_kept is None:
        return
    steps = _steps(folder)
    useless = {step for step in steps if checkpoint_at(folder, step).name in damaged}
    whole = [step for step in steps if step not in useless]
    for step in useless | (set(whole[: max(0, len(whole) - n_kept)]) - {best}):
        remove_folder(checkpoint_at(folder, step))


def _steps(folder: Path) -> list[int]:
    names = [path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal())


def _damage(folder: Path, step: int) -> str | None:
    wrong = damage(checkpoint_at(folder, step))
    if wrong is not None:
        return wrong
    strange = [path.name for path in checkpoint_at(folder, step).iterdir() if path.is_dir()]
    if strange:  # peft would load adapters of any kind from there, some of which bring code
        return f"it holds a folder that no run wrote, {strange[0]!r}"
    try:
        best = _state(checkpoint_at(folder, step)).get("best_global_step")
    except (OSError, ValueError, AttributeError) as error:
        return f"{STATE} cannot be read ({error})"
    if not best or best == step:
        return None
    wrong = damage(checkpoint_at(folder, best))
    return None if wrong is None else f"{_PREFIX}{best}, the best until then, is damaged: {wrong}"


def _state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return state
