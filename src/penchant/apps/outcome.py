"""What a command of the command line ends with."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def speaks() -> bool:
    """Whether this is the one of several processes that train together which prints and writes."""
    return os.environ.get("RANK", "0") == "0"  # as torchrun and accelerate number them


@dataclass(frozen=True)
class Outcome:
    """The result of one command.

    Attributes:
        data: what scripts read (`--json`), made of plain values; several records are a line each.
        text: what people read.
    """

    data: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    text: str
