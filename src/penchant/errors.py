"""One tree of errors: each says what is wrong, where in the data, how much of it, and what to do.

```
PenchantError
├── DataError          (ValueError)    the records a user brought cannot mean what they must
├── SettingsError      (ValueError)    a setting is unknown, of the wrong type or out of its range
├── UnknownNameError   (LookupError)   a method, format or model by that name does not exist
├── StorageError       (OSError)       a disk or a database does not take, or no longer holds, what it was given
├── NotFittedError     (RuntimeError)  a model was asked before it had learnt anything
└── MissingExtraError  (ImportError)   an optional dependency is not installed
```
"""

import difflib
from collections.abc import Iterable


class PenchantError(Exception):
    """Root of every error that penchant raises on purpose."""


class DataError(PenchantError, ValueError):
    """The records a user brought cannot mean what they must."""


class SettingsError(PenchantError, ValueError):
    """A setting is unknown, of the wrong type or out of its range."""


class UnknownNameError(PenchantError, LookupError):
    """A method, format or model by that name does not exist."""


class StorageError(PenchantError, OSError):
    """A disk or a database does not take, or no longer holds, what it was given."""


class NotFittedError(PenchantError, RuntimeError):
    """A model was asked before it had learnt anything."""


class MissingExtraError(PenchantError, ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names up to three close names, or the first few of all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(other) for other in close) + "?"
    few = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"known are {few}" if known else "none are known"
