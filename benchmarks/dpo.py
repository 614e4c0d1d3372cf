"""Direct preference optimisation: penchant's `train(DPO(), LanguagePolicy())` against TRL's `DPOTrainer`.

    python benchmarks/dpo.py [--quick] [--case 8_1] [--json -]

Both train all weights of the embedded model "small-chat" in fp32 on random words of exact token lengths: the same
tokens in the same order, batch, learning rate and loss. TRL runs at its best settings for this work: no gradient
checkpointing, reference log-probabilities computed beforehand. Timed are whole optimiser steps (batch, forward,
backward, AdamW, log line) after a first one. Not timed, for either side: imports, loading, tokenising, checkpoints,
and the reference log-probabilities. Peak memory is that of the process up to its last step, reference included.

Agreement comes first: two steps on short rows in one process must give losses equal to 1e-3 and the same first
gradient (cosine 0.9999, norm to 1e-3), for pairs and for lists; so must the losses of the timed steps. Lists are
read as the mean over their 28 pairs by both; TRL has no lists and gets the pairs. Ours runs with its defaults, so with
`recompute: cheap`; the peer's own recomputing would cost it a third of its speed.
"""

import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from paired import Found, Result, Work, alternate, apart, arguments, peak_mib, single_token_words

BETA, LEARNING_RATE = 0.1, 1e-6
MOST_DIFFERENCE, LEAST_COSINE = 1e-3, 0.9999
PAIRS_AT_ONCE = 4  # TRL's 28 pairs of a list go through the model in parts: all at once would need 20 GB


@dataclass(frozen=True)
class Case:
    """The shape of the work.

    Args:
        name: a key of `NAMES`.
        prompt, answer: tokens of each, with chat template and end of turn.
        n_answers: answers to a prompt, best first.
        batch: prompts of an optimiser step; every step sees the same, so that the loss falls.
        steps: optimiser steps, the first of which is not timed.
    """

    name: str
    prompt: int
    answer: int
    n_answers: int
    batch: int
    steps: int


CASES = (
    Case("8_1", prompt=512, answer=64, n_answers=2, batch=2, steps=3),
    Case("1_1", prompt=128, answer=128, n_answers=2, batch=4, steps=3),
    Case("list_of_8", prompt=128, answer=32, n_answers=8, batch=1, steps=2),
)
QUICK = Case("8_1", prompt=64, answer=8, n_answers=2, batch=1, steps=2)
SHORT = (
    Case("pairs", prompt=40, answer=6, n_answers=2, batch=2, steps=2),
    Case("lists", prompt=40, answer=6, n_answers=3, batch=1, steps=2),
)
NAMES = {"8_1": "throughput_ratio_8_1", "1_1": "throughput_ratio_1_1", "list_of_8": "list_of_8_ratio"}
RATIOS = (*NAMES.values(), "memory_ratio_8_1", "token_bound_share")


def records(case: Case, policy: Any) -> Any:
    """Random words, so many that prompt and answers have exactly the tokens that the case wants."""
    from penchant.records import Rankings

    words = single_token_words(policy.tokenizer)
    rng = np.random.default_rng(case.prompt)
    least = policy.encode(words[0], [words[0]])  # one word each, and what stands around it
    n_prompt, n_answer = case.prompt + 1 - len(least.prompt), case.answer + 1 - len(least.responses[0])
    rows = []
    for _ in range(case.batch):
        prompt, *answers = (" ".join(rng.choice(words, n)) for n in (n_prompt, *[n_answer] * case.n_answers))
        tokens = policy.encode(prompt, answers)
        if (len(tokens.prompt), {*map(len, tokens.responses)}) != (case.prompt, {case.answer}):
            sys.exit(f"The words made {len(tokens.prompt)} and {[*map(len, tokens.responses)]} tokens, not {case}.")
        rows.append({"prompt": prompt, "responses": answers})
    return Rankings.from_rows(rows)  # a pair is a ranking of two


@contextmanager
def watched(*, keeps_gradient: bool = False) -> Iterator[Any]:
    """Something that looks over the shoulder of every `transformers.Trainer`, which both sides are built on.

    Yields:
        The `losses` of each step; `wall`, `cpu` seconds of the steps after the first; `peak_mib` after the last; the
        `gradient` of the first step by name, if it is to be kept.
    """
    import transformers

    class Witness(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.losses, self.gradient = list[float](), dict[str, Any]()
            self.wall = self.cpu = self.peak_mib = 0.0

        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            if keeps_gradient and not self.gradient:
                self.gradient = {name: p.grad.detach().clone() for name, p in model.named_parameters()}

        def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            control.should_save = False  # ours would write a checkpoint of 2 GB, the peer is told not to
            if state.global_step == 1:
                self.begin = time.perf_counter(), time.process_time()
            self.wall, self.cpu = time.perf_counter() - self.begin[0], time.process_time() - self.begin[1]
            self.peak_mib = peak_mib()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            self.losses += [logs["loss"]] if "loss" in logs else []

    witness = Witness()
    everybody: list[Any] = transformers.trainer.DEFAULT_CALLBACKS
    everybody.append(witness)
    try:
        yield witness
    finally:
        everybody.remove(witness)


# The two sides -------------------------------------------------------------------------------------------------------


def train_ours(case: Case, folder: Path, *, packed: bool = True) -> None:
    """The case as a user of penchant would train it."""
    from penchant.align import DPO, TrainerSettings, train
    from penchant.cache import RowCache
    from penchant.policies import LanguagePolicy

    policy = LanguagePolicy(precision="float32")
    settings = TrainerSettings(
        steps=case.steps,
        examples_per_batch=case.batch,
        learning_rate=LEARNING_RATE,
        warmup=0.0,
        schedule="constant",
        max_gradient_norm=0.0,  # neither side clips, so that gradients can be compared as they are
        precision="fp32",
        packed=packed,
        log_steps=1,
    )
    train(
        DPO(beta=BETA, lists="pairs"),
        policy,
        records(case, policy),
        settings=settings,
        folder=folder / "ours",
        cache=RowCache(folder / "rows.sqlite"),  # a cold one: what an earlier run computed must not count
        progress=False,
    )


def train_peer(case: Case, folder: Path) -> None:
    """The case as TRL trains it, at its best settings for a CPU without bf16."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from penchant.align import DPO
    from penchant.align.batches import encode, plan
    from penchant.policies import LanguagePolicy

    class TokenisedDPOTrainer(DPOTrainer):  # type: ignore[misc]
        """TRL's, given token ids instead of text: exactly those that ours are trained on."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    policy = LanguagePolicy(precision="float32")
    rows = [row.tokens for row in encode(DPO(), policy, records(case, policy))[0]]
    planned = plan([row.n_tokens for row in rows], steps=case.steps, examples_per_batch=case.batch)
    in_order = [rows[number] for step in planned for part in step for number in part]
    pairs = [
        {"prompt_ids": list(row.prompt), "chosen_ids": list(better), "rejected_ids": list(worse)}
        for row in in_order
        for better, worse in itertools.combinations(row.responses, 2)  # best first
    ]
    n_pairs = len(pairs) // case.steps
    at_once = math.gcd(n_pairs, PAIRS_AT_ONCE)
    settings = DPOConfig(
        output_dir=str(folder / "peer"),
        beta=BETA,
        bf16=False,
        gradient_checkpointing=False,
        precompute_ref_log_probs=True,
        max_length=None,
        max_steps=case.steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=n_pairs // at_once,
        train_sampling_strategy="sequential",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    TokenisedDPOTrainer(
        policy.model, args=settings, train_dataset=Dataset.from_list(pairs), processing_class=policy.tokenizer
    ).train()


def side(work: Work) -> Found:
    """One side on one case, in a process of its own."""
    train_side = {"ours": train_ours, "padded": partial(train_ours, packed=False), "peer": train_peer}[work["side"]]
    with tempfile.TemporaryDirectory() as folder, watched() as seen:
        train_side(Case(**work["case"]), Path(folder))
    return {"wall": seen.wall, "cpu": seen.cpu, "peak_mib": seen.peak_mib, "losses": seen.losses}


# Agreement -----------------------------------------------------------------------------------------------------------


def agreement(cases: Sequence[Case]) -> Found:
    """How far losses and the first gradient of the two are apart on short rows, one after the other in one process."""
    losses, cosines, norms = [], [], []
    for case in cases:
        seen = []
        for train_side in (train_ours, train_peer):
            with tempfile.TemporaryDirectory() as folder, watched(keeps_gradient=True) as witness:
                train_side(case, Path(folder))
            seen.append(witness)
        ours, peer = seen
        mine, theirs = (math.sqrt(inner(one.gradient, one.gradient)) for one in seen)
        losses.append(difference(ours.losses, peer.losses))
        cosines.append(inner(ours.gradient, peer.gradient) / (mine * theirs))
        norms.append(abs(mine / theirs - 1))
        print(f"{case.name}: ours {ours.losses}, TRL {peer.losses}, cosine {cosines[-1]:.7f}", file=sys.stderr)
    # numpy's largest and smallest, other than Python's, are NaN where one number is
    found = {"loss_difference": np.max(losses), "gradient_norm_difference": np.max(norms)}
    return {name: float(value) for name, value in (found | {"gradient_cosine": np.min(cosines)}).items()}


def inner(some: dict[str, Any], others: dict[str, Any]) -> float:
    """The inner product of two gradients; in double precision, as 135 million small terms are added up."""
    return sum(float((some[name].double() * others[name].double()).sum()) for name in some)


def difference(some: list[float], others: list[float]) -> float:
    """The largest difference of two lists of losses; infinite where they differ in length."""
    return float(np.abs(np.subtract(some, others)).max()) if len(some) == len(others) > 0 else math.inf


def disagreement(found: Found) -> str:
    """What is wrong, if anything."""
    said = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items())
    close = all(found[name] <= MOST_DIFFERENCE for name in ("loss_difference", "gradient_norm_difference"))
    return "" if close and found["gradient_cosine"] >= LEAST_COSINE else f"ours and TRL disagree: {said}"


def main() -> None:
    """Agreement first, then the cases."""
    asked = arguments(str(__doc__), [case.name for case in CASES])
    if asked.work:
        print(json.dumps(agreement(SHORT[: asked.work["cases"]]) if "cases" in asked.work else side(asked.work)))
        return
    cases, repeats = ((QUICK,), 2) if asked.quick else (CASES, asked.repeats)
    result = Result("dpo", quick=asked.quick, repeats=repeats, peers=("torch", "transformers", "trl"))
    for name in RATIOS:
        result.refuse(name, "not in the quick form" if asked.quick else "not measured yet")
    if asked.case and not asked.quick:
        result.go_on()
        cases = tuple(case for case in CASES if case.name == asked.case)
    result.numbers |= (found := apart({"cases": 1 if asked.quick else len(SHORT)}))
    why_not = disagreement(found)
    for name in RATIOS if why_not else ():
        result.refuse(name, why_not)
    for case in () if why_not else cases:
        measure(case, result)
    result.report(asked)


def measure(case: Case, result: Result) -> None:
    """One case: all sides, turn by turn."""
    sides = ("ours", "peer", "padded") if case == CASES[0] else ("ours", "peer")
    print(case, file=sys.stderr)
    turns = alternate({name: {"side": name, "case": asdict(case)} for name in sides}, result.numbers["repeats"])
    result.keep(case.name, turns)
    name, ours, peer = NAMES[case.name], turns["ours"], turns["peer"]
    losses = [one["losses"] for found in turns.values() for one in found]
    apart_by = float(np.max([difference(losses[0], others) for others in losses]))
    result.numbers["loss_difference"] = max(result.numbers["loss_difference"], apart_by)
    if not apart_by <= MOST_DIFFERENCE:
        for refused in (name, "memory_ratio_8_1", "token_bound_share") if case.name == "8_1" else (name,):
            result.refuse(refused, f"losses of the sides, {', '.join(turns)}, differ by {apart_by:.3g}: {losses}")
        return
    result.speed(name, peer, ours)
    if case.name == "8_1":
        result.ratio("memory_ratio_8_1", [one["peak_mib"] for one in ours], [one["peak_mib"] for one in peer])
    if "padded" in turns:
        # Two padded rows cost 2(P + C) tokens, a packed one P + 2C: how much of that is left when all is counted?
        bound = 2 * (case.prompt + case.answer) / (case.prompt + 2 * case.answer)
        result.speed("token_bound_share", turns["padded"], ours, scale=1 / bound)


if __name__ == "__main__":
    main()
