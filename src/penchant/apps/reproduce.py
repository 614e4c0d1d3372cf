"""`penchant reproduce`: a paper's claim at laptop scale, and whether it held."""

import sys
from pathlib import Path
from typing import Literal

from penchant.apps.outcome import Outcome
from penchant.reproductions.run import reproduce as run
from penchant.reproductions.run import reproductions


def reproduce(
    slug: str,
    *,
    scale: Literal["quick", "full"] = "quick",
    folder: Path = Path("reproductions"),
    fresh: bool = False,
) -> Outcome:
    """Test a paper's claim: ours and the baselines in the same run, several seeds, an interval, a verdict.

    Finished seeds are kept, so that a run that was stopped goes on where it was. The verdict is computed from the
    interval; it can be false.

    Args:
        slug: of a claim, such as vpl or judging-bias (`penchant methods` names them all), or all.
        scale: quick takes about a minute, full is the claim as it is meant for a laptop.
        folder: where results and plots go, one folder for each slug.
        fresh: forget finished seeds and run them again.
    """
    slugs = sorted(reproductions()) if slug == "all" else [slug]
    results, texts = [], []
    for one in slugs:
        place = folder / one
        if fresh:
            for old in place.glob(f"{scale}-seed*.json"):
                old.unlink()
        result = run(one, scale=scale, folder=place, progress=lambda line: print(line, file=sys.stderr))
        results.append(result)
        texts.append(
            f"{one}: {'HOLDS' if result['holds'] else 'DOES NOT HOLD'} here ({result['seeds']} seeds, "
            f"{result['seconds']} s, {scale})\n  claim       {result['claim']}\n  metric      {result['metric']}\n"
            f"  ours        {result['ours']:.4g}\n  baseline    {result['baseline']:.4g}\n"
            f"  difference  {result['difference']:+.4g} [{result['ci_low']:+.4g}, {result['ci_high']:+.4g}]\n"
            + "".join(f"  - {note}\n" for note in result["notes"])
            + f"  kept in     {place}"
        )
    return Outcome(results[0] if slug != "all" else {"results": results}, "\n\n".join(texts))
