"""Training that is killed by SIGKILL at random instants, over and over, must end with the weights of a run left alone.

    python benchmarks/soak_train.py --kills 200 --json docs/benchmarks/soak_train.json

Every start is the real command (`penchant align ...`) in a process of its own, forked from one that has imported torch
already. It is killed at an instant drawn at random, which may lie anywhere: while the model is loaded, in a step, while
a checkpoint is written or an old one removed, while the policy is saved. The same command is then started again, until
the run is finished, and run follows run until there have been enough kills. Three kinds of run take turns, all with
dropout: all weights with gradient accumulation and evaluation; adapters with checkpoints by the clock; early stopping.

After every kill each checkpoint in the folder must be whole; after every run its weights must equal, bit by bit, those
of the same run left alone, and every number of its log; then the command is run once more and must find nothing to do.
Ends with code 1 otherwise.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # before torch: forked threads do not live on

WORDS = "a b c d e what is good bad red green blue yes no maybe tea coffee and or the".split()  # noqa: SIM905
COMMON = "--trainer.examples-per-batch 4 --trainer.learning-rate 0.003 --trainer.held-out 0.2"
KINDS = {
    "all weights": "--policy.lora-rank null --trainer.steps 24 --trainer.accumulation 2 --trainer.eval-steps 6 "
    "--trainer.save-steps 2 --trainer.log-steps 5",
    "adapters": "--policy.lora-rank 4 --trainer.steps 24 --trainer.schedule cosine --trainer.save-minutes 0.001 "
    "--trainer.log-steps 1",
    "early stopping": "--policy.lora-rank null --trainer.steps 60 --trainer.eval-steps 2 --trainer.patience 2 "
    "--trainer.keep-checkpoints 1 --trainer.learning-rate 0.03",
}


def prepare(folder: Path) -> None:
    """A language model of 30,000 weights with dropout, and 60 comparisons."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import tiny_model

    tiny_model.write(folder / "model", context=512)
    config = folder / "model" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) | {"attention_dropout": 0.1}
    config.write_text(json.dumps(settings), encoding="utf-8")
    drawn = random.Random(0)
    texts = [[" ".join(drawn.choices(WORDS, k=drawn.randint(1, 6))) for _ in range(3)] for _ in range(60)]
    rows = [{"prompt": p, "chosen": f"{a} yes", "rejected": f"{b} no"} for p, a, b in texts]
    (folder / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def started(folder: Path, kind: str, out: Path) -> int:
    """The command in a process of its own; what it says goes to a file beside its folder."""
    process = os.fork()
    if process:
        return process
    try:
        log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from penchant.cli import cli

        model, votes = folder / "model", folder / "votes.jsonl"
        where = ["--data.path", str(votes), "--policy.model", str(model), "--out", str(out)]
        cli.main(["align", *where, *COMMON.split(), *KINDS[kind].split()], standalone_mode=False)
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def finished(process: int, out: Path, *, within: float | None = None) -> bool:
    """Whether a process ended by itself; it is killed at the end of its time, and stops the soak if it failed."""
    if within is not None:
        until = time.monotonic() + within
        while (left := until - time.monotonic()) > 0:
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            time.sleep(min(left, 0.002))
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status > 0:
        raise SystemExit(f"A training process failed with code {status}:\n{said(out)[-3000:]}")
    return status == 0


def instant(out: Path) -> str:
    """What a process was doing when it was killed, from what it left."""
    partial = [path.name for path in (out / ".partial").glob("*")]
    if any(name.startswith("checkpoint-") and name.endswith(".removed") for name in partial):
        return "removing a checkpoint"
    if any(name.startswith("checkpoint-") for name in partial):
        return "writing a checkpoint"
    if partial or list(out.glob("*.partial")):
        return "writing the policy or another file"
    return "training" if "training:" in said(out) else "starting"


def said(out: Path) -> str:
    """What the last process said."""
    return out.with_suffix(".log").read_text(encoding="utf-8", errors="replace")


def weights(out: Path) -> dict[str, bytes]:
    """The bytes of the trained weights."""
    return {path.name: path.read_bytes() for path in sorted((out / "policy").glob("*.safetensors"))}


def log(out: Path) -> list[dict[str, float]]:
    """Losses, rewards, rates and gradients; without the line on how long the last process took."""
    history = json.loads((out / "run.json").read_text(encoding="utf-8"))["result"]["history"]
    return [line for line in history if "train_runtime" not in line]


def soak(folder: Path, n_kills: int, kinds: list[str], seed: int) -> dict[str, Any]:
    """Runs until there have been enough kills."""
    import peft  # noqa: F401  # what the processes need is imported once, here

    import penchant.align.trainer
    import penchant.apps.align  # noqa: F401
    from penchant.whole import damage

    prepare(folder)
    alone: dict[str, tuple[dict[str, bytes], list[dict[str, float]]]] = {}
    lasts: dict[str, float] = {}  # seconds of the last run that nobody killed: the machine may get faster or slower
    for kind in kinds:
        begun, out = time.monotonic(), folder / f"alone-{kind}"
        if not finished(started(folder, kind, out), out):
            raise SystemExit("A training process was killed by somebody else.")
        alone[kind], lasts[kind] = (weights(out), log(out)), time.monotonic() - begun
    drawn, kills = random.Random(seed), Counter[str]()
    n_runs = n_starts = n_equal = n_logs = n_idle = n_damaged = n_resumed = 0
    begun = time.monotonic()
    while kills.total() < n_kills:
        kind = kinds[n_runs % len(kinds)]
        out, killed = folder / f"run-{n_runs}", 0
        while True:
            n_starts += 1
            # With enough kills the last run is left alone; so is one that would never get beyond its own start.
            limit = None if kills.total() >= n_kills or killed >= 40 else drawn.uniform(0, 0.7 * lasts[kind])
            start = time.monotonic()
            if finished(started(folder, kind, out), out, within=limit):
                if not killed:
                    lasts[kind] = time.monotonic() - start
                break
            killed += 1
            kills[instant(out)] += 1
            n_damaged += sum(damage(path) is not None for path in out.glob("checkpoint-*"))
        n_resumed += "resumed from step" in said(out)
        n_equal += weights(out) == alone[kind][0]
        n_logs += log(out) == alone[kind][1]
        finished(started(folder, kind, out), out)
        n_idle += "nothing was trained" in said(out)
        n_runs += 1
        print(f"{kills.total()} kills, {n_runs} runs, {n_equal} with the same weights", file=sys.stderr, flush=True)
    return {
        "kills": kills.total(),
        "kills_while": dict(kills.most_common()),
        "kills_in_checkpoint_writing": kills["writing a checkpoint"] + kills["removing a checkpoint"],
        "runs": n_runs,
        "runs_with_bit_identical_weights": n_equal,
        "runs_with_the_same_log": n_logs,
        "runs_that_resumed_in_their_last_start": n_resumed,
        "finished_runs_run_again_that_did_nothing": n_idle,
        "damaged_checkpoints": n_damaged,
        "starts": n_starts,
        "kinds": kinds,
        "seconds_of_a_run_left_alone": {kind: round(seconds, 2) for kind, seconds in lasts.items()},
        "seconds": round(time.monotonic() - begun, 1),
        "seed": seed,
    }


def main() -> None:
    """Parse, soak, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--kind", choices=list(KINDS), help="only runs of this kind")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument(
        "--json", metavar="FILE", help="where the result goes as one line of JSON; - is standard output"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penchant-soak-") as folder:
        os.environ["PENCHANT_CACHE"] = str(Path(folder) / "cache")
        result = soak(Path(folder), asked.kills, [asked.kind] if asked.kind else list(KINDS), asked.seed)
    line = json.dumps(result)
    if asked.json and asked.json != "-":
        Path(asked.json).write_text(line + "\n", encoding="utf-8")
    else:
        print(line)
    each = (
        "runs_with_bit_identical_weights",
        "runs_with_the_same_log",
        "finished_runs_run_again_that_did_nothing",
    )
    if any(result[name] != result["runs"] for name in each) or result["damaged_checkpoints"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
