"""The one training loop: a thin layer on `transformers.Trainer` that every aligner shares.

Ours: the plan of batches (`batches.py`), a loss that is summed over an optimiser step and divided by the number of its
examples, reference log-probabilities computed once (`reference.py`), and the checks that make a resumed run the same
run (`recipe.py`). Theirs: optimiser, schedule, precision, checkpoints, data parallelism, FSDP, loggers.

    result = train(DPO(beta=0.1), policy, comparisons, settings=TrainerSettings(steps=200), folder=Path("run"))

Several processes: start the same script with `torchrun --nproc_per_node 2`; the result does not change.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from torch import Tensor

from penchant.align.batches import Aligner, Batch, Collator, Shares, encode, plan
from penchant.align.callbacks import Bar, Interrupt
from penchant.align.recipe import TrainerSettings, arguments_of, find_checkpoint, keep_recipe, recipe_of, step_of
from penchant.align.reference import kept_reference
from penchant.cache import RowCache
from penchant.errors import DataError, SettingsError

__all__ = ["TrainResult", "TrainerSettings", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves.

    Attributes:
        steps: optimiser steps taken, those before a resume included.
        loss: mean training loss at the last log, per example.
        held_out_loss: lowest held-out loss, if there was any evaluation.
        history: every log line, in order.
        n_examples: examples trained on.
        dropped: reason -> examples left out.
        resumed_from: step of the checkpoint this run went on from, if it did.
        policy: folder of the trained weights.
    """

    steps: int
    loss: float
    held_out_loss: float | None
    history: tuple[dict[str, float], ...]
    n_examples: int
    dropped: dict[str, int]
    resumed_from: int | None
    policy: Path


def train(
    aligner: Aligner,
    policy: Any,
    records: Any,
    *,
    settings: TrainerSettings,
    folder: Path | str,
    resume: bool | int = True,
    held_out: Any = None,
    cache: RowCache | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a policy in place, and keep checkpoints and the result in a folder.

    Ctrl-C and SIGTERM finish the current step, write a checkpoint and then raise; the same call goes on from there and
    ends with the weights of an uninterrupted run.

    Args:
        aligner: the method, such as `DPO()`.
        policy: of the kind that the aligner trains, such as a `LanguagePolicy`: it has `.model`, `.tokenizer`,
            `.encode`, `.scores(model, batch)`, `.can_pack` and `.save`.
        records: what the aligner reads.
        settings: how to train.
        folder: of checkpoints, logs and result; one run per folder.
        resume: go on from the last checkpoint in the folder, if there is one; a number names the step.
        held_out: records to evaluate on; by default `settings.held_out` decides.
        cache: of reference log-probabilities; by default the one shared by all runs of this account.
        progress: whether to show a bar on stderr.

    Returns:
        The result; `policy.model` holds the trained weights (under FSDP they are in `result.policy` only).

    Raises:
        DataError: there is nothing to train on, a row is too long, or the loss is no longer finite.
        SettingsError: the folder holds another run, or the checkpoint is not there.
        KeyboardInterrupt: the run was interrupted; a checkpoint has been written.
    """
    folder = Path(folder)
    if held_out is None and settings.held_out:
        records, held_out = _split(records, settings)
    rows, dropped = encode(aligner, policy, records, too_long=settings.too_long)
    held_rows = [] if held_out is None else encode(aligner, policy, held_out, too_long=settings.too_long)[0]
    if settings.patience and not held_rows:
        raise SettingsError("Early stopping needs held-out records: set held_out, or leave patience empty.")
    planned = plan(
        [row.tokens.n_tokens for row in rows],
        steps=settings.steps,
        epochs=None if settings.steps else settings.epochs,
        examples_per_batch=settings.examples_per_batch,
        tokens_per_batch=settings.tokens_per_batch,
        accumulation=settings.accumulation,
        seed=settings.seed,
    )
    checkpoint = find_checkpoint(folder, resume)
    arguments = arguments_of(settings, folder, n_steps=len(planned), evaluates=bool(held_rows))
    is_first = arguments.process_index == 0
    keep_recipe(folder, recipe_of(aligner, settings, rows, held_rows), write=is_first, resumes=checkpoint is not None)
    pad = policy.tokenizer.pad_token_id
    collators = [
        Collator(
            part,
            pad=policy.tokenizer.eos_token_id if pad is None else pad,
            use_packing=settings.packed and policy.can_pack,
        )
        for part in (rows, held_rows)
    ]
    if aligner.needs_reference:
        policy.model.to(arguments.device)
        for collator, name in zip(collators, ("train", "held-out"), strict=True):
            path = folder / f"reference-{name}.safetensors"
            kept_reference(
                policy.model, collator, path, cache, resumes=checkpoint is not None, bf16=settings.runs_bf16()
            )
    interrupt, used_cache, was_training = Interrupt(), policy.model.config.use_cache, policy.model.training
    loop = _Loop(aligner, policy, arguments, planned, collators, settings)
    if settings.fsdp is not None and not loop.is_fsdp_enabled:
        raise SettingsError(
            f"fsdp is set, but accelerate does not shard on {arguments.device.type}: start several processes on "
            "accelerators with torchrun, or leave fsdp empty."
        )
    loop.add_callback(interrupt)
    if progress and is_first:
        loop.add_callback(Bar())
    try:
        with interrupt, _silent():
            loop.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        # The loop switches the key-value cache off, dropout on and, for bf16, wraps the forward pass.
        policy.model.config.use_cache = used_cache
        policy.model.train(was_training)
        loop.accelerator.unwrap_model(loop.model_wrapped, keep_fp32_wrapper=False)
    interrupt.raise_if_any(folder, loop.state.global_step, len(planned))
    with _silent():
        _save(loop, policy, folder / "policy")
    losses = [line["loss"] for line in loop.state.log_history if "loss" in line]
    held_losses = [line["eval_loss"] for line in loop.state.log_history if "eval_loss" in line]
    return TrainResult(
        steps=loop.state.global_step,
        loss=losses[-1] if losses else math.nan,
        held_out_loss=min(held_losses, default=None),
        history=tuple(loop.state.log_history),
        n_examples=len(rows),
        dropped=dropped,
        resumed_from=None if checkpoint is None else step_of(checkpoint),
        policy=folder / "policy",
    )


def _split(records: Any, settings: TrainerSettings) -> tuple[Any, Any]:
    if not hasattr(records, "split"):
        raise SettingsError("held_out needs records that can be split; pass held-out rows yourself instead.")
    parts: tuple[Any, Any] = records.split(settings.held_out, by="prompt", seed=settings.seed)
    return parts


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without a bar for every file that transformers writes."""
    log: Any = transformers.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


class _Totals:
    """Weighted means of named numbers over batches and processes."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.weight: Tensor | float = 0.0

    def add(self, values: Mapping[str, Tensor], weight: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + (value.detach().float() * weight).sum()
        self.weight = self.weight + weight.sum()

    def means(self) -> dict[str, float]:
        if not self.sums:
            return {}
        names = sorted(self.sums)
        total = torch.stack([*(self.sums[name] for name in names), torch.as_tensor(self.weight)])
        if dist.is_initialized():
            dist.all_reduce(total)
        self.__init__()  # type: ignore[misc]
        *sums, weight = total.tolist()
        return {name: value / weight for name, value in zip(names, sums, strict=True)}


class _Loop(transformers.Trainer):
    """`transformers.Trainer` with our loss, our plan of batches and an evaluation that weighs every example alike."""

    def __init__(
        self,
        aligner: Aligner,
        policy: Any,
        arguments: transformers.TrainingArguments,
        planned: list[Any],
        collators: list[Collator],
        settings: TrainerSettings,
    ):
        n_processes = arguments.world_size
        super().__init__(
            model=policy.model,
            args=arguments,
            data_collator=collators[0],
            train_dataset=Shares(planned, n_processes, settings.accumulation),
            eval_dataset=[] if collators[1].rows else None,  # `evaluate` below reads the plan itself
            callbacks=[transformers.EarlyStoppingCallback(settings.patience)] if settings.patience else None,
        )
        self.remove_callback(transformers.PrinterCallback)
        self.aligner, self.policy, self.totals = aligner, policy, _Totals()
        self.loss_is_scaled_for_ga = True  # by the number of examples in the whole step, see compute_loss
        seen = itertools.accumulate((sum(map(len, step)) for step in planned), initial=0)
        self.epochs = [n / len(collators[0].rows) for n in seen]  # after so many steps
        self.held_out_collator = collators[1]
        numbers = list(range(len(collators[1].rows)))
        size = settings.examples_per_batch
        self.held_out_shares = Shares([[numbers[i : i + size]] for i in range(0, len(numbers), size)], n_processes)

    def _losses(self, model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        scores = self.policy.scores(model, batch)
        losses = self.aligner.loss(scores, batch)
        if losses.shape != batch["weight"].shape:
            raise DataError(
                f"{type(self.aligner).__name__}.loss gave {tuple(losses.shape)} numbers for {len(batch['weight'])} "
                "examples; it must give one per example and leave the mean to the trainer."
            )
        if not torch.isfinite(losses).all():
            raise DataError(
                f"The loss is not finite at step {self.state.global_step + 1}, in "
                f"{int((~torch.isfinite(losses)).sum())} of {len(losses)} examples. Lower learning_rate or check these "
                "examples; the last checkpoint is intact."
            )
        with torch.no_grad():
            metrics = self.aligner.metrics(scores, batch)
        return losses, metrics

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """This share's part of the mean over all examples of the step.

        Gradients are summed over the parts of a step and averaged over processes, hence the factor.
        """
        losses, metrics = self._losses(model, inputs)
        self.totals.add(metrics, inputs["weight"])
        share: Tensor = (losses * inputs["weight"]).sum() * (self.args.world_size / inputs["n_examples"])
        return share

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss and metrics over the held-out examples, exact whatever the batch size and number of processes."""
        totals = _Totals()
        was_training = self.model_wrapped.training
        self.model_wrapped.eval()
        with torch.no_grad():
            for i in range(self.args.process_index, len(self.held_out_shares), self.args.world_size):
                batch = self._prepare_inputs(self.held_out_collator([self.held_out_shares[i]]))
                losses, metrics = self._losses(self.model_wrapped, batch)
                totals.add({"loss": losses, **metrics}, batch["weight"])
        self.model_wrapped.train(was_training)
        found = {f"{metric_key_prefix}_{name}": value for name, value in totals.means().items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the aligner's metrics since the last time."""
        self.state.epoch = self.epochs[self.state.global_step]  # theirs takes the whole plan for one epoch
        if "loss" in logs:
            logs = {**logs, **self.totals.means()}
        super().log(logs, start_time)


def _save(loop: _Loop, policy: Any, folder: Path) -> None:
    """The trained weights as the policy saves them; sharded ones are gathered first."""
    if loop.is_fsdp_enabled:
        weights = loop.accelerator.get_state_dict(loop.model)
        if loop.args.should_save:
            loop.accelerator.unwrap_model(loop.model).save_pretrained(folder, state_dict=weights)
            policy.tokenizer.save_pretrained(folder)
    elif loop.args.should_save:
        policy.save(folder)
    if dist.is_initialized():
        dist.barrier()
