"""`penchant align`: train a language model on preferences."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from penchant.align.recipe import TrainerSettings
from penchant.apps.data import Data, shown_drops
from penchant.apps.outcome import Outcome, speaks
from penchant.exchange import write_json
from penchant.methods import METHODS
from penchant.methods import method as row_of
from penchant.methods import resolve as named
from penchant.settings import dump, resolve
from penchant.store import Store, without_password
from penchant.whole import whole_file


@dataclass(frozen=True)
class Policy:
    """What is trained.

    Attributes:
        model: small-chat, a name on the hub, a folder, or a .gguf file.
        lora_rank: rank of the adapter that is trained; null trains all weights.
        precision: of the weights; auto is bfloat16 on a GPU that has it, else float32.
    """

    model: str = "small-chat"
    lora_rank: int | None = 16
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


def align(
    *,
    method: str = "dpo",
    data: Data = Data(),
    policy: Policy = Policy(),
    settings: Mapping[str, Any] = {},
    trainer: TrainerSettings = TrainerSettings(held_out=0.1),
    out: Path = Path("aligned"),
    resume: bool = True,
) -> Outcome:
    """Train a language model on what people left; after Ctrl-C or a crash the same command goes on to the same weights.

    It says where it begins: anew, from which checkpoint, or that the run is finished. Several processes:
    `torchrun --nproc_per_node 2 -m penchant align ...`; the result does not change.

    Args:
        method: a method of the room `align` (see `penchant methods`), or the dotted path of your own class.
        data: what to train on.
        policy: the model.
        settings: the method's own settings; `penchant methods NAME` lists them.
        trainer: how to train.
        out: folder of checkpoints, logs and the trained policy.
        resume: go on from the last whole checkpoint in `out`, if there is one.
    """
    import transformers  # takes seconds, which `--help` need not wait for; torch too

    from penchant.align.trainer import train

    log: Any = transformers.logging
    if not speaks():
        log.disable_progress_bar()
    known = {row.name for row in METHODS}
    target = named(method) if "." in method and method not in known else row_of(method).resolve()
    aligner = target(**resolve(target, settings, where="settings."))
    records, dropped = data.of_kinds(aligner.reads)
    trained = aligner.trains(policy.model, lora_rank=policy.lora_rank, precision=policy.precision)
    if data.path is None and speaks():
        # Before the first step: what a run that was killed leaves is about people too.
        Store(data.store).derived(out, users=records.users, note=f"{method} policy")
    result = train(aligner, trained, records, settings=trainer, folder=out, resume=resume)
    dropped = dropped | result.dropped
    data_line = {
        "method": method,
        "examples": result.n_examples,
        "dropped": dropped,
        "steps": result.steps,
        "loss": None if math.isnan(result.loss) else result.loss,  # a run shorter than log_steps has none
        "held_out_loss": result.held_out_loss,
        "policy": str(result.policy),
    }
    if speaks():
        recipe = {
            "method": method,
            "data": replace(data, store=without_password(data.store)),
            "policy": policy,
            "settings": settings,
            "trainer": trainer,
            "out": out,
        }
        with whole_file(out / "align.yaml") as partial:
            partial.write_text(dump(recipe), encoding="utf-8")
        write_json(out / "result.json", data_line)
    losses = [
        "no training loss was logged: the run is shorter than trainer.log_steps"
        if math.isnan(result.loss)
        else f"training loss {result.loss:.4f}",
        *([] if result.held_out_loss is None else [f"lowest held-out loss {result.held_out_loss:.4f}"]),
    ]
    lines = [
        f"{method}: {result.n_examples} examples, {result.steps} steps, {result.begun}",
        *([shown_drops(dropped)] if dropped else []),
        ", ".join(losses),
        f"policy in {result.policy}; recipe in {out / 'align.yaml'}",
    ]
    return Outcome(data_line, "\n".join(lines))
