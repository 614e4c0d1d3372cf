"""Runs a paper's claim over several seeds, keeps each seed's result on disk, and concludes.

A killed run goes on where it stopped: each finished seed is one JSON file, written under a temporary name first. A seed
that another version of this package's code ran is run again.
"""

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import penchant
from penchant.errors import SettingsError, UnknownNameError, nearest
from penchant.exchange import write_json
from penchant.methods import METHODS
from penchant.source import source_digest


def reproductions() -> dict[str, str]:
    """Slug of each reproduction -> its module's name, from the table of methods."""
    return {row.slug: row.reproduction for row in METHODS if row.reproduction}


def reproduce(
    slug: str, *, scale: str = "quick", folder: Path | None = None, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Run one reproduction and conclude.

    Args:
        slug: as in `penchant methods`, such as "dpa" or "ranking-accuracy".
        scale: "quick" (a minute) or "full" (as the claim is meant on a laptop).
        folder: where results, notes and the plot go; finished seeds in it are not run again.
        progress: called with a line on what goes on.

    Returns:
        `slug, claim, metric, ours, baseline, difference, ci_low, ci_high, holds, seeds, seconds`, and `notes`, `scale`.

    Raises:
        UnknownNameError: there is no such reproduction.
        SettingsError: there is no such scale.
    """
    known = reproductions()
    name = known.get(slug.replace("_", "-"))
    if name is None:
        raise UnknownNameError(f"No reproduction is called {slug!r}: {nearest(slug, known)}")
    module = importlib.import_module(f"penchant.reproductions.{name}")
    if scale not in module.SEEDS:
        raise SettingsError(f"No scale is called {scale!r}: {nearest(scale, module.SEEDS)}")
    code = source_digest()
    runs, seconds = [], 0.0
    for seed in range(module.SEEDS[scale]):
        kept = None if folder is None else folder / f"{scale}-seed{seed}-{penchant.__version__}.json"
        done = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.exists() else {}
        if done.get("code") == code:
            progress(f"{slug}: seed {seed} is done already")
        else:
            progress(f"{slug}: seed {seed + 1} of {module.SEEDS[scale]}")
            begin = time.perf_counter()
            metrics = module.run(seed, scale, progress)
            done = {"metrics": metrics, "seconds": time.perf_counter() - begin, "code": code}
            if kept:
                write_json(kept, done)
        runs.append(done["metrics"])
        seconds += done["seconds"]
    verdict = module.verdict(runs)
    result = {
        "slug": slug,
        "claim": module.CLAIM,
        "metric": module.METRIC,
        "ours": verdict.ours,
        "baseline": verdict.baseline,
        "difference": verdict.interval.estimate,
        "ci_low": verdict.interval.low,
        "ci_high": verdict.interval.high,
        "holds": bool(verdict.holds),
        "seeds": len(runs),
        "seconds": round(seconds, 1),
        "scale": scale,
        "notes": list(verdict.notes),
    }
    if folder:
        write_json(folder / f"{scale}.json", result)
        if hasattr(module, "figure"):
            module.figure(runs).savefig(folder / f"{scale}.png", dpi=120, bbox_inches="tight")
    return result
