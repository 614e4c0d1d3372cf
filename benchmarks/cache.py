"""What is kept: the work that one per cent more rows cost, the speed of the cache, and the price of forgetting someone.

    python benchmarks/cache.py [--quick] [--json -]

Three kinds of work, each in a process of its own, several times.

- reference: the log-probabilities of 20,000 pairs under a small transformer, then of the same pairs and 200 more.
  Counted are the tokens that went through the model and the CPU time of everything: digests of weights and rows,
  looking up, computing, keeping.
- rows: putting and getting, of numbers and of vectors; the digest of as many weights as the embedded model has; and
  what overwriting the bytes of deleted rows costs.
- forget: a model of 200 people, learnt from texts that are encoded for it, learnt again without one of them. The
  result is first compared with a model that never saw the person.
"""

import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from paired import Found, Result, Stopwatch, Work, alternate, arguments

N_WEIGHTS = 134_515_008  # of SmolLM2-135M
MORE = 0.01
WORDS = "the of and to in is you that it he was for on are as with his they at be this have from or one had by word but"
MOST_DIFFERENCE = 1e-6


def reference(work: Work) -> Found:
    """CPU seconds and tokens of a first pass, of one with more rows, and of one in which everything is known."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from penchant.align.batches import Row
    from penchant.align.reference import reference_log_probabilities
    from penchant.cache import RowCache
    from penchant.policies.sequences import Example, can_pack

    torch.manual_seed(0)
    size = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=1000, **size))
    n_tokens = 0

    def count(_: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        nonlocal n_tokens
        n_tokens += keywords["input_ids"].numel()

    model.register_forward_pre_hook(count, with_kwargs=True)
    rng = np.random.default_rng(0)

    def drawn(length: int) -> tuple[int, ...]:
        return tuple(rng.integers(1000, size=length).tolist())

    n = work["pairs"]
    rows = [
        Row(Example(drawn(128), (drawn(32), drawn(32))), {}, (f"person {i % 500}",)) for i in range(n + round(MORE * n))
    ]
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, some in (("first", rows[:n]), ("more", rows), ("known", rows)):
            cache, before = RowCache(Path(folder) / "rows.sqlite"), n_tokens
            with Stopwatch() as watch:
                reference_log_probabilities(model, some, pad=0, use_packing=can_pack(model), cache=cache)
            found |= {f"{name}_cpu": watch.cpu, f"{name}_wall": watch.wall, f"{name}_tokens": float(n_tokens - before)}
    return found


def rows_kept(work: Work) -> Found:
    """Seconds of putting and getting so many values, of a digest of weights, and of overwriting."""
    import torch

    from penchant.cache import RowCache, content_key
    from penchant.policies.fingerprint import fingerprint

    n = work["rows"]
    keys = [content_key(str(i)) for i in range(n)]
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("numbers", 8), ("vectors", 1536)):
            values = {key: os.urandom(size) for key in keys}
            cache = RowCache(Path(folder) / f"{name}.sqlite")
            with Stopwatch() as put:
                for start in range(0, n, 1000):
                    part = keys[start : start + 1000]
                    cache.put_many(name, {key: values[key] for key in part}, {key: ("somebody",) for key in part})
            with Stopwatch() as get:
                kept = RowCache(cache.path).get_many(name, keys)
            if kept != list(values.values()):
                raise SystemExit("The cache gave back something else than it was given.")
            found |= {f"{name}_put": put.wall, f"{name}_get": get.wall, f"{name}_get_cpu": get.cpu}
        size = cache.size()
        with Stopwatch() as overwriting:
            cache.forget("nobody")
        found["seconds_per_gb"] = overwriting.wall / size * 1e9
    weights = torch.nn.Module()
    weights.register_parameter("all", torch.nn.Parameter(torch.rand(N_WEIGHTS)))
    with Stopwatch() as digest:
        fingerprint(weights)
    return found | {"fingerprint": digest.wall}


def forget(work: Work) -> Found:
    """CPU seconds of learning a model of people, of learning it again without one, and of doing so from scratch."""
    from penchant.cache import RowCache
    from penchant.encoders import Cached, Joined, MiniLM
    from penchant.people import population
    from penchant.preference import BradleyTerry
    from penchant.style import Style

    texts = written(work["texts"])
    crowd = population(work["people"], n_features=8, strength=2.0, spread=1.5, seed=0)
    comparisons = voted(crowd, texts, work["votes"])
    gone = crowd.names[0]
    others = comparisons.without(gone)
    MiniLM().encode(texts[:8])  # loading is no part of either
    with tempfile.TemporaryDirectory() as folder:

        def new() -> BradleyTerry:
            kept = Cached(MiniLM(), RowCache(Path(folder) / "rows.sqlite"))
            kept.encoder.encode(["loaded"])
            return BradleyTerry(encoder=Joined(Style(), kept))

        model, again = new(), new()
        with Stopwatch() as full:
            model.fit(comparisons).adapt_each(comparisons)
        with Stopwatch() as without:
            shorter = model.without(gone, others)
        with Stopwatch() as numbers:
            again.fit(others).adapt_each(others)
    mine, theirs = (
        np.concatenate([one.weights_, one.standard_errors_, *(found.weights for found in one.users_.values())])
        for one in (shorter, again)
    )
    return {
        "full_cpu": full.cpu,
        "without_cpu": without.cpu,
        "numbers_cpu": numbers.cpu,
        "difference": float(np.abs(mine - theirs).max()),
    }


def written(n: int) -> list[str]:
    """Texts of 10 to 60 words, no two alike."""
    rng = np.random.default_rng(0)
    return [f"{i} {' '.join(rng.choice(WORDS.split(), rng.integers(10, 60)))}." for i in range(n)]


def voted(crowd: Any, texts: list[str], n_each: int) -> Any:
    """Votes of simulated people on pairs of texts, by eight things that can be seen of a text."""
    from penchant.records import Comparisons
    from penchant.style import Style

    seen = Style().encode(texts).astype(float)[:, :8]
    seen = (seen - seen.mean(axis=0)) / np.maximum(seen.std(axis=0), 1e-9)
    rng = np.random.default_rng(1)
    rows = []
    for person, name in enumerate(crowd.names):
        for _ in range(n_each):
            pair = rng.choice(len(texts), size=2, replace=False)
            if not crowd.prefers_first(person, seen[pair[:1]], seen[pair[1:]], rng)[0]:
                pair = pair[::-1]
            rows.append({"prompt": "", "chosen": texts[pair[0]], "rejected": texts[pair[1]], "user": name})
    return Comparisons.from_rows(rows)


def main() -> None:
    """All three, several times each."""
    asked = arguments(str(__doc__))
    if asked.work:
        does = {"reference": reference, "rows": rows_kept, "forget": forget}
        print(json.dumps(does[asked.work["task"]](asked.work)))
        return
    quick = asked.quick
    result = Result("cache", quick=quick, repeats=2 if quick else 3, peers=("torch", "transformers"))
    works: list[Work] = [
        {"task": "reference", "pairs": 2000 if quick else 20_000},
        {"task": "rows", "rows": 10_000 if quick else 40_000},
        {"task": "forget", "people": 30 if quick else 200, "votes": 30, "texts": 400 if quick else 4000},
    ]
    turns: dict[str, list[Found]] = {}
    for work in works:
        found = alternate({"ours": work}, result.numbers["repeats"])
        result.keep(work["task"], found)
        turns[work["task"]] = found["ours"]
        result.numbers |= {name: value for name, value in work.items() if name != "task"}
    write_numbers(result, **turns)
    result.report(asked)


def write_numbers(result: Result, reference: list[Found], rows: list[Found], forget: list[Found]) -> None:
    """The figures of the page."""
    for unit in ("tokens", "cpu"):
        name = {"tokens": "reference_work_share_1_percent", "cpu": "reference_cpu_share_1_percent"}[unit]
        result.ratio(name, *([one[f"{turn}_{unit}"] for one in reference] for turn in ("more", "first")))
    result.number("lookup_seconds", median(one["known_wall"] for one in reference))
    result.number("lookup_cpu_seconds", median(one["known_cpu"] for one in reference))
    n = result.numbers["rows"]
    for kind in ("numbers", "vectors"):
        for verb in ("put", "get"):
            result.number(f"{kind}_{verb}_per_second", median(n / one[f"{kind}_{verb}"] for one in rows))
    result.number("fingerprint_seconds_135m", median(one["fingerprint"] for one in rows))
    result.number("overwrite_seconds_per_gb", median(one["seconds_per_gb"] for one in rows))
    difference = max(one["difference"] for one in forget)
    result.number("forget_difference", difference)
    for name, over in (("forget_refit_share", "full_cpu"), ("forget_refit_share_of_numbers", "numbers_cpu")):
        if difference <= MOST_DIFFERENCE:
            result.ratio(name, *([one[clock] for one in forget] for clock in ("without_cpu", over)))
        else:
            result.refuse(name, f"the model differs by {difference:.3g} from one that never saw the person")


if __name__ == "__main__":
    main()
