"""Where sets of real feedback lie, for reproductions that need them; they are never part of this package."""

import os
from pathlib import Path


def real_data(name: str) -> Path | None:
    """A file of the folder that PENCHANT_DATA names, or of `shared/data` beside the repository; None if not there."""
    folder = Path(os.environ.get("PENCHANT_DATA", Path(__file__).parents[4] / "shared" / "data"))
    return folder / name if (folder / name).is_file() else None
