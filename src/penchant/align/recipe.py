"""How a run is set: its settings, the record kept of them, and what they mean to `transformers`.

>>> TrainerSettings(steps=10, examples_per_batch=4, accumulation=2).examples_per_step
8
"""

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import penchant
from penchant.cache import content_key
from penchant.errors import MissingExtraError, SettingsError, StorageError

if TYPE_CHECKING:
    import transformers

    from penchant.align.batches import Aligner, Row

RUN = "run.json"  # the recipe of a run, and its result once it is finished


@dataclass(frozen=True)
class TrainerSettings:
    """How to train; what to train is the aligner's business.

    Args:
        steps: optimiser steps; rows are dealt again as often as that takes. Leave empty to use `epochs`.
        epochs: how often every row is dealt, if `steps` is empty.
        examples_per_batch: examples computed at once, over all processes together.
        tokens_per_batch: instead of `examples_per_batch`: as many examples as fit in so many tokens.
        accumulation: batches per optimiser step; 2 x 4 examples train exactly like 1 x 8, in half the memory.
        learning_rate: peak of the schedule.
        warmup: share of the steps during which the learning rate rises, in [0, 1).
        schedule: what the learning rate does after that.
        weight_decay: of AdamW.
        max_gradient_norm: longer gradients are shortened to this; 0 switches it off.
        precision: "auto" is bf16 on a GPU that has it, and fp32 on every CPU: most have bf16 in name only (50 times
            slower), and a run must not end otherwise on a newer processor.
        seed: of the order of the rows and of dropout.
        packed: compute a prompt once for all its responses, in one row without padding.
        too_long: "error", or "drop" to leave out and count examples that the model's context cannot hold.
        held_out: share of the prompts set aside for evaluation, in [0, 1); not needed where held-out records are given.
        eval_steps: evaluate every so many steps; empty is ten times a run.
        patience: stop after so many evaluations without a lower held-out loss, and keep the best weights.
        save_minutes: write a checkpoint after so many minutes without one, which is the most that a crash costs; empty
            is only when interrupted. A shorter run writes none: its end is the policy itself.
        save_steps: write a checkpoint every so many steps and at the end instead.
        keep_checkpoints: how many of the newest stay, and the best besides where `patience` looks for it; 0 removes the
            last one too once the policy is saved, empty keeps all.
        log_steps: log every so many steps, and before every checkpoint.
        loggers: any of "tensorboard", "wandb", "mlflow".
        recompute: what is computed again for the gradient instead of being kept: "cheap" is all but products and
            attention, half the memory for a few hundredths of the time; "all" saves most and takes a third longer.
            Sharded runs (`fsdp`) know "all" and "nothing", and take "cheap" for "nothing".
        fsdp: options of FSDP2 as transformers takes them (`fsdp_config`), {} for its defaults, to share weights,
            gradients and optimiser out among processes; empty is plain data parallelism.
    """

    steps: int | None = None
    epochs: float = 1.0
    examples_per_batch: int = 8
    tokens_per_batch: int | None = None
    accumulation: int = 1
    learning_rate: float = 1e-4
    warmup: float = 0.1
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    packed: bool = True
    too_long: Literal["error", "drop"] = "error"
    held_out: float = 0.0
    eval_steps: int | None = None
    patience: int | None = None
    save_minutes: float | None = 10.0
    save_steps: int | None = None
    keep_checkpoints: int | None = 2
    log_steps: int = 10
    loggers: tuple[str, ...] = ()
    recompute: Literal["nothing", "cheap", "all"] = "cheap"
    fsdp: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any work is done."""
        least = {
            "steps": 1,
            "examples_per_batch": 1,
            "tokens_per_batch": 1,
            "accumulation": 1,
            "eval_steps": 1,
            "patience": 1,
            "save_steps": 1,
            "keep_checkpoints": 0,
            "log_steps": 1,
            "weight_decay": 0,
            "max_gradient_norm": 0,
            "seed": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise SettingsError(f"{name} must be at least {low}: got {value!r}.")
        for name in ("epochs", "learning_rate", "save_minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SettingsError(f"{name} must be above 0 and finite: got {value!r}.")
        for name in ("warmup", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} is a share in [0, 1): got {getattr(self, name)!r}.")
        unknown = set(self.loggers) - {"tensorboard", "wandb", "mlflow"}
        if unknown:
            raise SettingsError(f"Unknown loggers {sorted(unknown)}: use tensorboard, wandb or mlflow.")
        if "FULL" not in str((self.fsdp or {}).get("state_dict_type", "FULL_STATE_DICT")).upper():
            raise SettingsError(
                f"fsdp.state_dict_type {self.fsdp['state_dict_type']!r} is refused: torch unpickles such checkpoints, "  # type: ignore[index]
                "and a pickle can run any code. Leave it out: sharded weights are gathered for a checkpoint."
            )

    @property
    def examples_per_step(self) -> int:
        """Examples an optimiser step sees, over all its batches and processes."""
        return self.examples_per_batch * self.accumulation

    def runs_bf16(self) -> bool:
        """Whether this machine trains in bf16 under these settings."""
        import torch

        if self.precision != "auto":
            return self.precision == "bf16"
        return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported())


def recipe_of(
    aligner: "Aligner", policy: Any, settings: TrainerSettings, rows: "list[Row]", held_rows: "list[Row]"
) -> dict[str, Any]:
    """Everything that decides the weights a run ends with, and the versions it ran under.

    Of the policy that is what training leaves as it is: its kind, the shapes of all weights, and the frozen ones.
    """
    from penchant.policies.fingerprint import digest_of  # torch takes seconds, which settings need not wait for

    free = {"keep_checkpoints", "log_steps", "loggers", "save_minutes", "save_steps"}
    weights = dict(policy.model.named_parameters())
    chosen = {k: v for k, v in dataclasses.asdict(settings).items() if k not in free}
    names = [name for name in inspect.signature(type(aligner)).parameters if hasattr(aligner, name)]
    digests = [
        content_key(*(content_key(repr(row.tokens), repr(sorted(row.fields.items()))) for row in part))
        for part in (rows, held_rows)
    ]
    return {
        "method": f"{type(aligner).__module__}:{type(aligner).__qualname__}",
        "settings": {name: str(getattr(aligner, name)) for name in names},
        "trainer": json.loads(json.dumps(chosen)),
        "policy": {
            "kind": type(policy).__name__,
            "shapes": content_key(*(f"{name} {tuple(weight.shape)}" for name, weight in weights.items())),
            "frozen": digest_of({name: weight for name, weight in weights.items() if not weight.requires_grad}),
        },
        "rows": digests,
        "versions": {
            "penchant": penchant.__version__,
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        },
    }


def read_run(folder: Path) -> dict[str, Any]:
    """The recipe that a folder's run began with, and its `result` once it is finished; empty if it holds no run.

    Raises:
        StorageError: the file does not hold what was written.
    """
    path = folder / RUN
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise StorageError(
            f"{path} cannot be read ({error}), so nobody knows which run the folder holds. Choose another folder, or "
            "delete the file to go on with these settings."
        ) from error
    return run


def require_same(folder: Path, before: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that began otherwise.

    Args:
        folder: of the run, for the message.
        before: from `read_run`.
        recipe: from `recipe_of`.

    Raises:
        SettingsError: names what differs; versions may.
    """
    changed = [name for name in recipe if name != "versions" and recipe[name] != before.get(name)]
    details = [
        f"{name}.{key} was {before[name].get(key)!r} and is {value!r}"
        for name in changed
        if isinstance(recipe[name], Mapping) and isinstance(before.get(name), Mapping)
        for key, value in recipe[name].items()
        if value != before[name].get(key)
    ]
    if changed:
        raise SettingsError(
            f"{folder.name} holds a run with other {' and '.join(changed)}: {'; '.join(details) or 'see ' + RUN}. "
            "Resuming it would give weights that belong to neither; use its settings, or another folder."
        )


def arguments_of(
    settings: TrainerSettings, folder: Path, *, n_steps: int, evaluates: bool
) -> "transformers.TrainingArguments":
    """Our settings in the words of `transformers`.

    Args:
        settings: how to train.
        folder: of the run.
        n_steps: optimiser steps of the plan.
        evaluates: whether there are held-out rows.

    Raises:
        MissingExtraError: a logger is not installed.
    """
    import torch
    import transformers

    for name in settings.loggers:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"The logger {name!r} is not installed: pip install {name}")
    eval_steps = settings.eval_steps or max(1, n_steps // 10)
    save_steps = eval_steps if settings.patience else settings.save_steps
    sharding = None if settings.fsdp is None else dict(settings.fsdp)
    if sharding is None and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise SettingsError(
            "accelerate was told to shard (FSDP), the trainer was not: set trainer.fsdp, to {} at least."
        )
    if sharding is not None and settings.recompute == "all":
        sharding["activation_checkpointing"] = True
    constant = "constant_with_warmup" if settings.warmup else "constant"
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = not torch.accelerator.is_available()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=n_steps,
        per_device_train_batch_size=1,  # one share of a part of a step: the plan has decided what is in it
        gradient_accumulation_steps=settings.accumulation,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(settings.warmup * n_steps),
        lr_scheduler_type=constant if settings.schedule == "constant" else settings.schedule,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm,
        bf16=settings.runs_bf16(),
        seed=settings.seed,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=eval_steps,
        load_best_model_at_end=settings.patience is not None,
        metric_for_best_model="eval_loss" if settings.patience else None,
        greater_is_better=False if settings.patience else None,
        restore_callback_states_from_checkpoint=settings.patience is not None,
        save_strategy="steps" if save_steps else "no",  # by the clock: see callbacks.Safekeeping
        save_steps=save_steps or n_steps,
        logging_steps=settings.log_steps,
        logging_nan_inf_filter=False,  # a loss that is not finite is an error here, not a line to smooth over
        disable_tqdm=True,
        report_to=list(settings.loggers),
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=on_cpu,
        ddp_backend="gloo" if n_processes > 1 and on_cpu else None,
        fsdp=sharding is not None or None,  # type: ignore[arg-type]  # its annotation lags behind its help
        fsdp_config=sharding,
    )
    if arguments.world_size != n_processes:
        raise SettingsError(
            f"WORLD_SIZE says {n_processes} processes train together, but {arguments.world_size} found each other. "
            "Start them with torchrun, or unset WORLD_SIZE."
        )
    return arguments
