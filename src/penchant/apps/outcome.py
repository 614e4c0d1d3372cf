"""What a command of the command line ends with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of one command.

    Attributes:
        data: what scripts read (`--json`), made of plain values.
        text: what people read.
    """

    data: Mapping[str, Any]
    text: str
