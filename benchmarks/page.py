"""Write docs/benchmarks.md from docs/benchmarks/*.json: every number on the page comes from a file of a benchmark.

python benchmarks/page.py
"""

import json
from pathlib import Path
from typing import Any

from paired import RESULTS

# Of each benchmark: what is compared, and its keys in the order of the page with what they mean.
SECTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "dpo": (
        "Direct preference optimisation against TRL's `DPOTrainer`: all weights of a model of 135 million parameters "
        "in fp32, the same tokens in the same order. Timed are optimiser steps; reference log-probabilities are "
        "computed beforehand on both sides and not timed.",
        {
            "throughput_ratio_8_1": "times faster, prompts of 512 and answers of 64 tokens",
            "memory_ratio_8_1": "peak memory, ours / TRL's, 512 and 64 tokens",
            "throughput_ratio_1_1": "times faster, prompts and answers of 128 tokens",
            "list_of_8_ratio": "times faster, ranked lists of 8 answers; TRL has no lists and gets their 28 pairs",
            "token_bound_share": "packed against our own padded rows, share of what the number of tokens allows",
            "loss_difference": "largest difference of a step's loss",
            "gradient_cosine": "cosine of the first gradients",
        },
    ),
    "import": (
        "JSON Lines into Parquet and into SQLite, by the code behind `penchant import`. The peer is `datasets`, which "
        "neither recognises a format nor checks a row.",
        {
            "parquet_rows_per_second": "rows a second into Parquet",
            "sqlite_rows_per_second": "rows a second into SQLite",
            "memory_1e5_mib": "peak memory for 100,000 rows, MiB",
            "memory_1e6_mib": "peak memory for 1,000,000 rows, MiB",
            "memory_growth": "peak memory, 1,000,000 rows / 100,000 rows",
            "export_50000_seconds": "seconds to export 50,000 answers, five people's to each question, as JSON Lines",
            "export_50000_parquet_seconds": "seconds to export them as Parquet",
            "parquet_ratio_1e6": "times faster into Parquet than `datasets`, 1,000,000 rows",
            "parquet_memory_ratio_1e6": "peak memory, ours / that of `datasets`, 1,000,000 rows",
        },
    ),
    "encode": (
        "Sentence vectors of MiniLM against sentence-transformers with the same weights.",
        {
            "throughput_ratio": "times faster, texts that all differ",
            "duplicates_ratio": "times faster, each text four times",
            "warm_cache_ratio": "times faster, texts encoded before (the peer keeps nothing)",
            "memory_ratio": "peak memory, ours / the peer's",
            "vector_difference": "largest difference of a coordinate",
        },
    ),
    "sample": (
        "Eight answers of 64 tokens to a prompt of 256, `LanguagePolicy.draw` against `generate` of transformers, the "
        "second of two equal calls in a process; ours also gives log-probabilities of all tokens. llama.cpp's engine "
        "computes with the quantised weights of the same file.",
        {
            "throughput_ratio": "times faster",
            "first_call_ratio": "times faster, the first call of a process",
            "memory_ratio": "peak memory, ours / the peer's",
            "log_probability_difference": "largest difference of a log-probability from a plain forward pass's, nats",
            "llama_throughput_ratio": "times faster through llama.cpp's engine",
            "llama_first_call_ratio": "times faster through it, the first call (the engine's start included)",
            "llama_memory_ratio": "peak memory through it, with the fp32 weights beside it, ours / the peer's",
            "llama_log_probability_difference": "mean difference of its log-probabilities from the fp32 model's, nats",
            "ours_tokens_per_second": "tokens a second, ours",
            "peer_tokens_per_second": "tokens a second, the peer's",
            "llama_tokens_per_second": "tokens a second, llama.cpp's engine",
            "greedy_equal": "whether a greedy answer is the same",
        },
    ),
    "cache": (
        "What is kept, without a peer. Reference log-probabilities are of 20,000 pairs (128 tokens and two answers of "
        "32) under a transformer of 1.1 million parameters, so small that everything around it counts; CPU time "
        "includes digests of weights and rows, looking up and keeping. The model that is learnt again is of 200 people "
        "with 30 votes each on 4,000 texts, and equals one that never saw the person.",
        {
            "reference_work_share_1_percent": "tokens computed after 1 % of pairs was added, share of the first pass",
            "reference_cpu_share_1_percent": "CPU time of the same, share of the first pass",
            "lookup_seconds": "seconds to look up 20,200 known pairs",
            "fingerprint_seconds_135m": "seconds to take the digest of 135 million weights",
            "numbers_get_per_second": "log-probabilities read a second",
            "numbers_put_per_second": "log-probabilities kept a second",
            "vectors_get_per_second": "vectors of 384 numbers read a second",
            "vectors_put_per_second": "vectors of 384 numbers kept a second",
            "forget_refit_share": "CPU time of learning again without a person, share of learning with encoding",
            "forget_refit_share_of_numbers": "the same, share of learning from kept vectors",
            "forget_difference": "largest difference from a model that never saw the person",
            "overwrite_seconds_per_gb": "seconds to overwrite deleted rows, for each gigabyte of the cache",
        },
    ),
    "users": (
        "Learning many people, without a peer: simulated people of four kinds, ten comparisons each, over 100,000 "
        "items with vectors of 384 numbers. Newcomers are learnt in one call; the table below has a row for each "
        "number of people learnt from.",
        {
            "ideal_point_fit_seconds": "ideal_point: seconds to learn a million people",
            "ideal_point_peak_gib": "ideal_point: peak memory of it, GiB",
            "ideal_point_adapted_a_second": "ideal_point: newcomers learnt a second",
            "ideal_point_score_ms": "ideal_point: milliseconds to score 1,000 candidates for a person",
            "ideal_point_ray_difference": "ideal_point: largest difference of a reward when two Ray workers fit it",
            "mixture_fit_seconds": "mixture: seconds to learn a million people",
            "mixture_peak_gib": "mixture: peak memory of it, GiB",
            "mixture_adapted_a_second": "mixture: newcomers learnt a second",
            "mixture_score_ms": "mixture: milliseconds to score 1,000 candidates for a person",
            "mixture_ray_difference": "mixture: largest difference of a reward when two Ray workers fit it",
        },
    ),
    "sae": (
        "The audit's sparse autoencoder against SAELens's Matryoshka autoencoder with batch top-k: 100,000 simulated "
        "difference vectors of 384 numbers with 32 planted reasons, the same width, active features, batches, learning "
        "rate and number of steps. What is left unexplained, dead and found is measured on vectors held out, and no "
        "ratio is printed unless ours is at least as good. SAELens's features are active on one side only: at equal "
        "width they have half as many directions to give, and whether one follows a reason both ways is not asked of "
        "them.",
        {
            "audit_throughput_ratio": "times faster, 32 features of which 4 are active",
            "wide_throughput_ratio": "times faster, 256 features of which 8 are active",
            "audit_ours_per_second": "differences a second, ours, 32 features",
            "audit_peer_per_second": "differences a second, SAELens's, 32 features",
            "audit_ours_unexplained": "share left unexplained, ours, 32 features",
            "audit_peer_unexplained": "share left unexplained, SAELens's, 32 features",
            "audit_ours_dead": "share of dead features, ours, 32 features",
            "audit_peer_dead": "share of dead features, SAELens's, 32 features",
            "audit_ours_found": "share of planted reasons found, ours, 32 features",
            "wide_ours_unexplained": "share left unexplained, ours, 256 features",
            "wide_peer_unexplained": "share left unexplained, SAELens's, 256 features",
            "wide_ours_found": "share of planted reasons found, ours, 256 features",
        },
    ),
    "item_fairness": (
        "All fifteen values of item fairness of 100,000 users' lists of ten out of 20,000 items, from the lists on. "
        "The peer is RecBole's evaluator, which has three of them; definitions are sums over all pairs of items (VoCD) "
        "and of user and item (II-D, AI-D) in plain numpy.",
        {
            "ours_seconds": "seconds for all of them",
            "recbole_ratio": "times faster than RecBole is with its three",
            "recbole_difference": "largest difference of a value from RecBole's, as a share of it",
            "definitions_ratio": "times faster than the three definitions over all pairs",
            "definitions_difference": "largest difference of a value from its definition, as a share of it",
        },
    ),
    "leaderboard": (
        "A leaderboard of 1.7 million simulated votes between 130 systems against arena-rank, whose fit compiles its "
        "optimiser each time. Scores are compared with what arena-rank arrives at when it goes on until it settles.",
        {
            "fit_ratio": "times faster, ratings and sandwich intervals from counted votes",
            "end_to_end_ratio": "times faster, from columns of strings to scores with intervals",
            "trust_ratio": "arena-rank's single fit / 1,000 bootstrap refits and the fragility of all neighbours, ours",
            "max_elo_difference": "largest difference of a score, points",
            "max_elo_difference_as_timed": "the same, where arena-rank stops when left alone, points",
        },
    ),
    "rigging": (
        "Rigged votes among those of 400 simulated people on 10 systems, one person in ten hostile or careless; turns "
        "are simulated worlds, spreads are over them. No peer.",
        {
            **{
                f"{case}_{key}": f"{meaning}, {about}"
                for case, about in (
                    ("target_only", "votes for a target alone"),
                    ("covered", "half of them honest ones"),
                    ("everywhere", "also against the target's next rival"),
                    ("against", "against the leader"),
                    ("burst", "by new names in a tenth of the time"),
                    ("careless_seldom", "coin flips, 20 votes of each person"),
                    ("careless", "coin flips, 40 votes of each person"),
                    ("careless_often", "coin flips, 80 votes of each person"),
                )
                for key, meaning in (
                    ("found", "share of rigged votes found"),
                    ("false_people", "share of honest people named"),
                    ("moved_most", "most places that a target moved"),
                    ("moved_filtered_most", "the same, without what was found"),
                )
            },
            "nobody_false_people": "share of honest people named where nobody rigs",
        },
    ),
}
# Of each soak: its command, what it does, and its keys with what they mean.
SOAKS: dict[str, tuple[str, str, dict[str, str]]] = {
    "soak_import": (
        "python benchmarks/soak_import.py --kills 1000 --json docs/benchmarks/soak_import.json",
        "Importing processes are killed by SIGKILL at random instants and started again, alone or two at a time.",
        {
            "kills": "kills",
            "kills_in_the_midst": "times that a killed import had left some of a file and not all",
            "files": "files",
            "lost": "acknowledged records that were lost",
            "doubled": "records that were there twice",
            "missing_at_the_end": "files that were not whole in the end",
        },
    ),
    "arena": (
        "python benchmarks/arena.py",
        "A live arena: 200 votes a second over HTTP to a server of its own, each on disk before it is acknowledged, in "
        "three turns of 30 seconds; then servers killed by SIGKILL at random instants while people vote, change votes "
        "and repeat them; the full number of kills is 1,000. Latency is from when a vote was due; where other work "
        "takes both cores the bar is missed.",
        {
            "latency.votes": "votes in all turns",
            "latency.turns_ms.p50": "median time to the acknowledgement, ms, each turn",
            "latency.turns_ms.p99": "99th percentile, ms, each turn",
            "latency.turns_ms.most": "longest, ms, each turn",
            "latency.bar_ms": "99th percentile that is allowed, ms",
            "soak.kills": "kills",
            "soak.kills_under_load": "kills while votes were under way",
            "soak.acknowledged": "votes that were acknowledged",
            "soak.lost": "acknowledged votes that were lost",
            "soak.doubled": "votes that were there twice",
            "soak.wrong": "battles whose vote or history is another one than was sent",
        },
    ),
    "fuzz_import": (
        "python tests/feedback/malformed.py --inputs 10000 --json docs/benchmarks/fuzz_import.json",
        "Malformed files of every format and form: odd values, damaged bytes, other encodings, wrong structure, bombs; "
        "each is imported twice, with its format recognised and asked for.",
        {
            "inputs": "malformed files",
            "crashes": "imports that ended in another error than one of ours",
            "rows": "rows in files that could be read",
            "rows_neither_kept_nor_counted": "rows neither kept nor counted with a reason",
            "refused_as_a_whole": "imports refused as a whole, in a sentence",
            "peak_mib": "peak memory of all of it, MiB",
        },
    ),
}
HEAD = """# Benchmarks

Ours beside the strongest peer on the same work: `make bench` measures everything again. Each side runs in a process of
its own, sides take turns, and results must agree before anything is timed. A ratio is the median over the turns, with
its lowest and highest value; one whose spread is wider than its distance from 1 is refused.
"""


def section(name: str) -> str:
    """One benchmark as a paragraph and a table."""
    about, keys = SECTIONS[name]
    text = f"## {name}\n\n{about}\n\n"
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return f"{text}Not measured. To measure it: `python benchmarks/{name}.py`.\n"
    numbers = json.loads(path.read_text(encoding="utf-8"))
    versions = ", ".join(f"{package} {version}" for package, version in numbers["versions"].items())
    rows = [line(numbers, key, meaning) for key, meaning in keys.items()]
    return (
        f"{text}{numbers['repeats']} turns, {numbers['threads']} threads, {versions}.\n\n"
        "| what | by the clock | lowest to highest | by CPU time |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    ) + curves(numbers.get("curves", {}))


def curves(found: dict[str, list[dict[str, Any]]]) -> str:
    """How costs grow with the number of people, a row for each model and size."""
    head = ("model", "people", "fit, s", "peak, GiB", "accuracy of newcomers", "of everybody's reward", "of the truth")
    keys = ("people", "fit_seconds", "peak_gib", "accuracy", "accuracy_everybody", "accuracy_truth")
    lines = [
        " | ".join([model, *(shown(one | {"peak_gib": one["peak_mib"] / 1024}, key) for key in keys)])
        for model, sizes in found.items()
        for one in sizes
    ]
    rule = "|".join(["---"] * len(head))
    table = "\n".join(f"| {row} |" for row in [" | ".join(head), *lines])
    first, _, rest = table.partition("\n")
    return f"\n{first}\n|{rule}|\n{rest}\n" if found else ""


def soak(name: str) -> str:
    """One soak as a paragraph and a table."""
    command, about, keys = SOAKS[name]
    text = f"## {name}\n\n{about}\n\n```\n{command}\n```\n\n"
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return f"{text}Not run yet.\n"
    numbers = json.loads(path.read_text(encoding="utf-8"))
    rows = [f"| {meaning} | {counted(numbers, key)} |" for key, meaning in keys.items()]
    return f"{text}| what | how many |\n|---|---|\n" + "\n".join(rows) + "\n"


def counted(numbers: dict[str, Any], key: str) -> str:
    """A number, or one of each turn, by its path such as latency.p99_ms."""
    value: Any = numbers
    for name in key.split("."):
        value = value[name]
    return ", ".join(f"{one:,}" for one in value) if isinstance(value, list) else f"{value:,}"


def line(numbers: dict[str, Any], key: str, meaning: str) -> str:
    """A row of the table."""
    cpu = shown(numbers, f"{key}_cpu")
    if numbers.get(key) is None:
        return f"| {meaning} | not measured: {numbers['refused'].get(key, 'absent')} | | {cpu} |"
    spread = " to ".join(f"{end:.3g}" for end in numbers["spread"].get(key, ()))
    return f"| {meaning} | {shown(numbers, key)} | {spread} | {cpu} |"


def shown(numbers: dict[str, Any], key: str) -> str:
    """A number with three digits, whole where it is large; nothing where there is none."""
    value = numbers.get(key)
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main() -> None:
    """Write the page."""
    page = RESULTS.with_suffix(".md")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([HEAD, *(section(name) for name in SECTIONS), *map(soak, SOAKS)]), encoding="utf-8")
    print(Path("docs") / page.name)


if __name__ == "__main__":
    main()
