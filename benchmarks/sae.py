"""Sparse autoencoders of response differences: the audit's against SAELens's, same width, active features and steps.

    python benchmarks/sae.py [--quick] [--json -]

100,000 difference vectors of 384 numbers lie in memory. They are simulated: 32 reasons for which two responses may
differ, each a direction, present in one response and not in the other in one pair of eight; 200 lesser ones of a third
of the size, in one pair of twenty; and noise. The reasons are what must be found, the lesser ones are what real vectors
are full of. Both sides learn a Matryoshka autoencoder with batch top-k (prefixes of a quarter and of all features) from
the same vectors in batches of 256, with the same learning rate, for as many steps. The peer's keeps positive
activations only, as all of its autoencoders do, so that at equal width it has half as many directions to give; that is
why what is learnt is compared before any ratio is printed. Timed is learning alone: not making vectors, imports or
measuring.

Measured on 10,000 vectors that were not learnt from, with the threshold that each side leaves for use, a new world for
each turn: the share left unexplained, features that are never active, and reasons of which some feature's activation
has a correlation of 0.9 or more. A ratio is refused unless ours leaves no more unexplained in any turn, has no more
dead features and finds 95 % of the reasons.

SAELens is no dependency of anything here and wants much that nothing else needs: install it into an environment of its
own beside penchant, and run this script there.
"""

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paired import Found, Result, Stopwatch, Work, alternate, arguments, peak_mib

DIM, NOISE = 384, 0.05  # noise as a share of the variance
REASONS, LESSER = 32, 200
PRESENT, SIZES = (1 / 8, 1 / 20), (1.0, 1 / 3)  # of a reason, of a lesser one
BATCH_SIZE, LEARNING_RATE = 256, 5e-4
HELD_OUT = 10_000
MATCHES = 0.9  # correlation from which on a reason counts as found
MUST_FIND = 0.95
CASES = {"audit": (32, 4), "wide": (256, 8)}  # features, and how many of them are active on average

Floats = NDArray[np.float32]


def planted(n: int, seed: int) -> tuple[Floats, Floats]:
    """Difference vectors, float32[n, dim], and how far each reason is in them, float32[n, reasons]."""
    rng = np.random.default_rng(seed)
    vectors, kinds = np.zeros((n, DIM), np.float32), []
    for count, share, size in zip((REASONS, LESSER), PRESENT, SIZES, strict=True):
        directions = rng.standard_normal((count, DIM)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        shape = (n, count)
        sizes = np.float32(size) * (1 + 0.2 * rng.standard_normal(shape, dtype=np.float32))
        signed = np.where(rng.random(shape, dtype=np.float32) < 0.5, -sizes, sizes)
        kinds.append(signed * (rng.random(shape, dtype=np.float32) < share))
        vectors += kinds[-1] @ directions
    vectors += rng.standard_normal((n, DIM), dtype=np.float32) * vectors.std() * np.float32(NOISE**0.5)
    return vectors, kinds[0]


def quality(activations: Floats, rebuilt: Floats, vectors: Floats, present: Floats) -> Found:
    """What was learnt, on vectors that were not learnt from."""
    a, p = activations - activations.mean(axis=0), present - present.mean(axis=0)
    sizes = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(p, axis=0))
    correlations = np.abs(np.divide(a.T @ p, sizes, out=np.zeros_like(sizes), where=sizes > 0))
    return {
        "unexplained": float(((vectors - rebuilt) ** 2).sum() / (vectors**2).sum()),
        "dead": float((activations == 0).all(axis=0).mean()),
        "active": float((activations != 0).sum(axis=1).mean()),
        "found": float((correlations.max(axis=0) >= MATCHES).mean()),
    }


def ours(work: Work, vectors: Floats, held_out: Floats, present: Floats) -> Found:
    """The audit's."""
    from penchant.preference.sparse_autoencoder import SparseAutoencoder

    model = SparseAutoencoder(
        n_features=work["features"],
        n_active=work["active"],
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        epochs=work["epochs"],
        patience=0,
        seed=work["seed"],
    )
    with Stopwatch() as watch:
        model.fit(vectors)
    activations = model.activations(held_out)
    found = quality(activations, model.rebuilt(activations), held_out, present)
    return found | {"wall": watch.wall, "cpu": watch.cpu}


def peer(work: Work, vectors: Floats, held_out: Floats, present: Floats) -> Found:
    """SAELens's, through its own trainer, fed from memory."""
    import torch
    from sae_lens import SAE, LoggingConfig, MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(work["seed"])
    x = torch.from_numpy(vectors)
    steps = work["epochs"] * (len(x) // BATCH_SIZE)

    def batches() -> Iterator[Any]:
        while True:
            order = torch.randperm(len(x))
            for start in range(0, len(x) - BATCH_SIZE + 1, BATCH_SIZE):
                yield x[order[start : start + BATCH_SIZE]]

    model = MatryoshkaBatchTopKTrainingSAE(
        MatryoshkaBatchTopKTrainingSAEConfig(
            d_in=DIM,
            d_sae=work["features"],
            k=work["active"],
            matryoshka_widths=[work["features"] // 4, work["features"]],
        )
    )
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            n_checkpoints=0,
            checkpoint_path=None,
            save_final_checkpoint=False,
            total_training_samples=steps * BATCH_SIZE,
            device="cpu",
            autocast=False,
            lr=LEARNING_RATE,
            lr_end=LEARNING_RATE,
            lr_scheduler_name="constant",
            lr_warm_up_steps=0,
            adam_beta1=0.9,
            adam_beta2=0.999,
            lr_decay_steps=0,
            n_restart_cycles=1,
            train_batch_size_samples=BATCH_SIZE,
            dead_feature_window=64,
            feature_sampling_window=2000,
            logger=LoggingConfig(log_to_wandb=False, eval_every_n_wandb_logs=2**31 - 1),
        ),
        sae=model,
        data_provider=batches(),
    )
    with Stopwatch() as watch:
        trainer.fit()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.save_inference_model(folder)
        used = SAE.load_from_disk(folder)
        activations = used.encode(torch.from_numpy(held_out))
        rebuilt = used.decode(activations)
    found = quality(activations.numpy(), rebuilt.numpy(), held_out, present)
    return found | {"wall": watch.wall, "cpu": watch.cpu}


def timed(work: Work) -> Found:
    """One side on vectors of one seed."""
    vectors, present = planted(work["rows"] + HELD_OUT, work["seed"])
    side = {"ours": ours, "peer": peer}[work["side"]]
    return side(work, vectors[HELD_OUT:], vectors[:HELD_OUT], present[:HELD_OUT]) | {"peak_mib": peak_mib()}


def main() -> None:
    """Every case, turn by turn."""
    asked = arguments(str(__doc__), tuple(CASES))
    if asked.work:
        print(json.dumps(timed(asked.work)))
        return
    rows, epochs, repeats = (20_000, 5, 2) if asked.quick else (100_000, 5, asked.repeats)
    result = Result("sae", quick=asked.quick, repeats=repeats, peers=("numpy", "torch", "sae-lens"))
    result.numbers |= {"rows": rows, "dim": DIM, "reasons": REASONS, "epochs": epochs, "batch_size": BATCH_SIZE}
    if asked.case:
        result.go_on()
    for case in [asked.case] if asked.case else CASES:
        measure(case, rows, epochs, result)
    result.report(asked)


def measure(case: str, rows: int, epochs: int, result: Result) -> None:
    """Ours, beside the peer if there is one."""
    features, active = CASES[case]
    has_peer = importlib.util.find_spec("sae_lens") is not None
    sides = ("ours", "peer") if has_peer else ("ours",)
    work = {"rows": rows, "epochs": epochs, "features": features, "active": active}
    turns: dict[str, list[Found]] = {side: [] for side in sides}
    for turn in range(result.numbers["repeats"]):
        works: dict[str, Work] = {side: work | {"side": side, "seed": turn} for side in sides[:: 1 - 2 * (turn % 2)]}
        for side, found in alternate(works, 1).items():
            turns[side] += found
    result.keep(case, turns)
    result.numbers |= {f"{case}_features": features, f"{case}_active": active}
    for side, found in turns.items():
        result.number(f"{case}_{side}_per_second", median(rows * epochs / one["wall"] for one in found))
        for key in ("unexplained", "dead", "found", "active", "peak_mib"):
            result.number(f"{case}_{side}_{key}", median(one[key] for one in found))
    name = f"{case}_throughput_ratio"
    why_not = _why_not(turns["ours"], turns["peer"]) if has_peer else "sae-lens is not installed"
    if why_not:
        result.refuse(name, why_not)
        result.refuse(f"{name}_cpu", why_not)
    else:
        result.speed(name, turns["peer"], turns["ours"])


def _why_not(ours: list[Found], theirs: list[Found]) -> str:
    """Why speed must not be compared: what was learnt is not as good."""
    for mine, other in zip(ours, theirs, strict=True):
        for key, meaning in (("unexplained", "leaves more unexplained"), ("dead", "has more dead features")):
            if mine[key] > other[key]:
                return f"ours {meaning} in one turn: {mine[key]:.3g} against {other[key]:.3g}"
    found = median(one["found"] for one in ours)
    return f"ours finds {100 * found:.0f} % of the reasons only" if found < MUST_FIND else ""


if __name__ == "__main__":
    main()
