"""The one training loop: a thin layer on `transformers.Trainer` that every aligner shares.

Ours: the plan of batches (`batches.py`), a loss that is summed over an optimiser step and divided by the number of its
examples, reference log-probabilities computed once (`reference.py`), checkpoints that are there whole or not at all
(`checkpoints.py`), and the checks that make a resumed run the same run (`recipe.py`). Theirs: optimiser, schedule,
precision, what a checkpoint holds, data parallelism, FSDP, loggers.

    result = train(DPO(beta=0.1), policy, comparisons, settings=TrainerSettings(steps=200), folder=Path("run"))

Several processes: start the same script with `torchrun --nproc_per_node 2`; the result does not change.
"""

import contextlib
import itertools
import math
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor

from penchant.align.batches import Aligner, Batch, Collator, Shares, encode, plan
from penchant.align.callbacks import Bar, Safekeeping, Watching
from penchant.align.checkpoints import POLICY, STATE, Start, checkpoint_at, find_start, held, remove_old
from penchant.align.processes import meet, of_first
from penchant.align.recipe import RUN, TrainerSettings, arguments_of, recipe_of
from penchant.align.recompute import cheap_contexts
from penchant.align.reference import kept_reference
from penchant.cache import RowCache
from penchant.errors import DataError, SettingsError, StorageError
from penchant.exchange import write_json
from penchant.policies.linear import through_onednn
from penchant.whole import partial_folder, sweep, whole_folder

__all__ = ["TrainResult", "TrainerSettings", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves.

    Attributes:
        steps: optimiser steps taken, those before a resume included.
        loss: mean training loss at the last log, per example.
        held_out_loss: lowest held-out loss, if there was any evaluation.
        history: every log line, in order, those before a resume included.
        n_examples: examples trained on.
        dropped: reason -> examples left out.
        resumed_from: step of the checkpoint this run went on from, if it did.
        begun: in a sentence, where it began and why there.
        policy: folder of the trained weights.
    """

    steps: int
    loss: float
    held_out_loss: float | None
    history: tuple[dict[str, float], ...]
    n_examples: int
    dropped: dict[str, int]
    resumed_from: int | None
    begun: str
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
    watching: Watching | None = None,
) -> TrainResult:
    """Train a policy in place, and keep checkpoints and the result in a folder.

    Ctrl-C and SIGTERM finish the current step, write a checkpoint and then raise. After that, or after a crash at any
    instant, the same call goes on from the last whole checkpoint and ends with the weights of an uninterrupted run; a
    finished run is not trained again.

    Args:
        aligner: the method, such as `DPO()`.
        policy: of the kind that the aligner trains, such as a `LanguagePolicy`: it has `.model`, `.tokenizer`,
            `.encode`, `.scores(model, batch)`, `.can_pack` and `.save`.
        records: what the aligner reads.
        settings: how to train.
        folder: of checkpoints, logs and result; one run per folder.
        resume: go on from what the folder holds, if anything; a number names the step of a checkpoint.
        held_out: records to evaluate on; by default `settings.held_out` decides.
        cache: of reference log-probabilities; by default the one shared by all runs of this account.
        progress: whether to say on stderr where the run begins, and to show a bar.
        watching: looks at the policy at some steps; a finished run is not looked at again.

    Returns:
        The result; `policy.model` holds the trained weights (under FSDP they are in `result.policy` only).

    Raises:
        DataError: there is nothing to train on, a row is too long, or the loss is no longer finite.
        SettingsError: the folder holds another run or is in use, or the checkpoint is not there.
        StorageError: the disk is full, or a checkpoint asked for by number is damaged; whole ones stay as they are.
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
    arguments = arguments_of(settings, folder, n_steps=len(planned), evaluates=bool(held_rows))
    with contextlib.ExitStack() as stack:

        def begin() -> tuple[dict[str, Any], Start]:
            recipe = recipe_of(aligner, policy, settings, rows, held_rows)
            stack.enter_context(held(folder))
            start = find_start(folder, recipe, resume)
            sweep(folder)
            return recipe, start

        recipe, start = of_first(begin)
        begun = start.sentence(len(planned))
        is_first = arguments.process_index == 0
        if is_first and (progress or start.damaged):
            print(f"penchant: {folder}: {begun}", file=sys.stderr)
        if start.stopped_early:  # what is left of the run is to save its policy
            planned, arguments.max_steps = planned[: start.step], start.step
        collators = [
            Collator(part, pad=_pad(policy), use_packing=settings.packed and policy.can_pack)
            for part in (rows, held_rows)
        ]
        loop = _Loop(aligner, policy, arguments, folder, planned, collators, settings, start)
        if start.result is None:
            if is_first:
                write_json(folder / RUN, recipe)
            if aligner.needs_reference:
                loop.learn_reference(cache, resumes=start.checkpoint is not None)
            if watching is not None:
                loop.add_callback(watching)
            result = loop.run(bar=progress and is_first)
            if is_first:
                write_json(folder / RUN, recipe | {"result": result})
                if settings.keep_checkpoints == 0:
                    remove_old(folder, 0)
        else:
            result = start.result
            loop.load_policy()
    loss = result["loss"]
    return TrainResult(
        steps=result["steps"],
        loss=math.nan if loss is None else loss,
        held_out_loss=result["held_out_loss"],
        history=tuple(result["history"]),
        n_examples=len(rows),
        dropped=dropped,
        resumed_from=start.step or None,
        begun=begun,
        policy=folder / POLICY,
    )


def _pad(policy: Any) -> int:
    pad = policy.tokenizer.pad_token_id
    return int(policy.tokenizer.eos_token_id if pad is None else pad)


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


def _make_state(optimizer: torch.optim.Optimizer) -> None:
    """The state of a first step, which is allocated lazily: a step of gradient and rate zero, not counted."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        state["step"].zero_()


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
    """`transformers.Trainer` with our loss and plan of batches, an exact evaluation, and checkpoints that are whole."""

    def __init__(
        self,
        aligner: Aligner,
        policy: Any,
        arguments: transformers.TrainingArguments,
        folder: Path,
        planned: list[Any],
        collators: list[Collator],
        settings: TrainerSettings,
        start: Start,
    ):
        n_processes = arguments.world_size
        self.before = policy.model.config.use_cache, policy.model.training
        super().__init__(
            model=policy.model,
            args=arguments,
            data_collator=collators[0],
            train_dataset=Shares(planned, n_processes, settings.accumulation),
            eval_dataset=[] if collators[1].rows else None,  # `evaluate` below reads the plan itself
            callbacks=[transformers.EarlyStoppingCallback(settings.patience)] if settings.patience else None,
        )
        self.remove_callback(transformers.PrinterCallback)
        self.aligner, self.policy, self.settings, self.start = aligner, policy, settings, start
        self.damaged = dict(start.damaged)
        self.folder, self.n_steps, self.collators = folder, len(planned), collators
        self.totals = _Totals()
        self.loss_is_scaled_for_ga = True  # by the number of examples in the whole step, see compute_loss
        seen = itertools.accumulate((sum(map(len, step)) for step in planned), initial=0)
        self.epochs = [n / len(collators[0].rows) for n in seen]  # after so many steps
        numbers = list(range(len(collators[1].rows)))
        size = settings.examples_per_batch
        self.held_out_shares = Shares([[numbers[i : i + size]] for i in range(0, len(numbers), size)], n_processes)

    def create_accelerator_and_postprocess(self) -> None:
        """As theirs, and FSDP2 on CPUs too: accelerate knows how, but asks for it on accelerators only."""
        asked = os.environ.get("ACCELERATE_USE_FSDP")
        super().create_accelerator_and_postprocess()
        if asked is None:  # what accelerate notes there would make it shard the next run of this process too
            os.environ.pop("ACCELERATE_USE_FSDP", None)
        state = self.accelerator.state
        if self.args.fsdp_plugin_args is None or self.is_fsdp_enabled:
            return
        if state.distributed_type != DistributedType.MULTI_CPU:
            raise SettingsError(
                "fsdp is set, but there is one process, and nothing to share out: start several with "
                "`torchrun --nproc_per_node N -m penchant ...`, or leave fsdp empty."
            )
        # What `AcceleratorState.__init__` does where there are accelerators (accelerate 1.15).
        PartialState().distributed_type = state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        if state.mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
        self.is_fsdp_enabled = True

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As theirs, with its state in place before the first step.

        Allocated after it, between what a step leaves behind, it would keep memory from growing together again.
        """
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if not self.is_fsdp_enabled:
            _make_state(optimizer)
        return optimizer

    def learn_reference(self, cache: RowCache | None, *, resumes: bool) -> None:
        """What the policy thought of every response before its first step."""
        model: Any = self.policy.model.to(self.args.device)
        for collator, name in zip(self.collators, ("train", "held-out"), strict=True):
            path = self.folder / f"reference-{name}.safetensors"
            kept_reference(model, collator, path, cache, resumes=resumes, bf16=self.settings.runs_bf16())

    def run(self, *, bar: bool) -> dict[str, Any]:
        """Train from the start to the end, and save the policy.

        Returns:
            `steps`, `loss`, `held_out_loss` and `history` as in `TrainResult`, None where there is no loss.
        """
        keeping = Safekeeping(None if self.settings.save_steps else self.settings.save_minutes)
        self.add_callback(keeping)
        if bar:
            self.add_callback(Bar())
        checkpoint = self.start.checkpoint
        how = self.settings.recompute
        if how != "nothing" and not self.is_fsdp_enabled and self.policy.model.supports_gradient_checkpointing:
            options = {"use_reentrant": False} | ({"context_fn": cheap_contexts} if how == "cheap" else {})
            self.policy.model.activation_checkpointing_enable(options)
        try:
            with keeping, _silent(), through_onednn(self.policy.model, pack=False):
                self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except pickle.UnpicklingError as error:
            raise StorageError(
                f"{checkpoint} holds something else than numbers, and was not loaded: {str(error).splitlines()[0]} "
                "Whoever changed it may have meant harm; delete it to go on from the one before."
            ) from error
        finally:
            self._hand_back()
        keeping.raise_if_any(self.folder, self.state.global_step, self.n_steps)
        weights = self.accelerator.get_state_dict(self.model) if self.is_fsdp_enabled else None
        if self.args.should_save:
            with _silent(), whole_folder(self.folder / POLICY) as partial:
                self._save(str(partial), weights)
        meet()
        losses = [line["loss"] for line in self.state.log_history if "loss" in line]
        held_losses = [line["eval_loss"] for line in self.state.log_history if "eval_loss" in line]
        return {
            "steps": self.state.global_step,
            "loss": losses[-1] if losses else None,
            "held_out_loss": min(held_losses, default=None),
            "history": self.state.log_history,
        }

    def load_policy(self) -> None:
        """The weights of a finished run, into the policy."""
        if not self.is_fsdp_enabled:
            self._load_from_checkpoint(str(self.folder / POLICY))
        self._hand_back()

    def _hand_back(self) -> None:
        """The loop switches the key-value cache off, dropout on and, for bf16, wraps the forward pass."""
        self.policy.model.config.use_cache, was_training = self.before
        if self.policy.model.is_activation_checkpointing:
            self.policy.model.activation_checkpointing_disable()
        self.policy.model.train(was_training)
        self.accelerator.unwrap_model(self.model_wrapped, keep_fp32_wrapper=False)

    def _get_output_dir(self, trial: Any) -> str:
        return str(partial_folder(self.folder / POLICY).parent)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As theirs, gathered elsewhere until all of it is on the disk; only then do older ones go."""
        path = checkpoint_at(self.folder, self.state.global_step)
        with whole_folder(path) if self.args.should_save else contextlib.nullcontext():
            meet()  # no process writes before the folder is there and empty
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                self.state.best_model_checkpoint = None  # a path; `best_global_step` still holds in a folder that moved
                self.state.save_to_json(str(partial_folder(path) / STATE))
            meet()  # nor is it closed before all have written
        if self.args.should_save:
            n_kept, best = self.settings.keep_checkpoints, self.state.best_global_step
            self.damaged.pop(path.name, None)
            remove_old(self.folder, 1 if n_kept == 0 else n_kept, best=best, damaged=self.damaged)
            self.damaged.clear()
        meet()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As theirs; but sharded weights lie in a checkpoint once, in the form in which they are read back."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """As the policy saves itself: a checkpoint can be loaded as one, and no pickled arguments lie beside it."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.folder)
        if state_dict is None:
            self.policy.save(folder)
        else:  # gathered, tied weights no longer share their memory, by which they are known to be one
            tied = self.policy.model.all_tied_weights_keys
            self.policy.save(folder, weights={name: w for name, w in state_dict.items() if name not in tied})

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
                batch = self._prepare_inputs(self.collators[1]([self.held_out_shares[i]]))
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
