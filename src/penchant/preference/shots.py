r"""A person's labelled pairs in front of a question: which are shown for which, and how they are written.

Windows follow the formula of few-shot preference optimisation: n shots and one target. (The authors' code advances by
n + 2 rows a window of n + 1, and so loses one in each; and a data set named for 4 shots builds 8.) What is too long
loses whole shots, the first ones first, never a part of the question; both are counted.

Source:
    Singh, Hsu, Hsu, Mitchell, Ermon, Hashimoto, Sharma and Finn (2025), FSPO, arXiv 2502.19312, and its code.

>>> shots = [Shot("Tea?", "Yes, black.", "With milk.")]
>>> print(task(shots, "Coffee?"))
# Example 1
<BLANKLINE>
## Question
Tea?
<BLANKLINE>
## Preferred Response
Yes, black.
<BLANKLINE>
## Dispreferred Response
With milk.
<BLANKLINE>
# Task
<BLANKLINE>
Answer the question below as this person would prefer.
<BLANKLINE>
## Question
Coffee?
<BLANKLINE>
<BLANKLINE>
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.errors import DataError, SettingsError
from penchant.preference.votes import rows_of
from penchant.records import Comparisons
from penchant.turns import Form, readable

INSTRUCTION = "Answer the question below as this person would prefer."
_DESCRIPTION = "## User Description\n"
_PREFERRED = "## Preferred Response\n"
_HEADINGS = re.compile(
    r"^(# Example \d+|# Task|## (?:Question|Preferred Response|Dispreferred Response|User Description))[ \t]*$",
    re.MULTILINE,
)


class Shot(NamedTuple):
    """One labelled pair of a person.

    Attributes:
        question: what was asked.
        preferred: the answer they liked better.
        dispreferred: the other one.
    """

    question: str
    preferred: str
    dispreferred: str


def task(shots: Sequence[Shot], question: str, *, description: str | None = None) -> str:
    """What the model reads before it answers, up to where its answer begins.

    Args:
        shots: the person's labelled pairs; none for everybody.
        question: what is asked now.
        description: of the person in words, if it is known.
    """
    parts = [
        f"# Example {number}\n\n## Question\n{_plain(shot.question)}\n\n{_PREFERRED}{_plain(shot.preferred)}\n\n"
        f"## Dispreferred Response\n{_plain(shot.dispreferred)}\n\n"
        for number, shot in enumerate(shots, 1)
    ]
    about = f"{_DESCRIPTION}{_plain(description)}\n\n" if description else ""
    return f"{''.join(parts)}# Task\n\n{INSTRUCTION}\n\n{about}## Question\n{_plain(question)}\n\n"


def answer(response: str, *, description: str | None = None) -> str:
    r"""A completion of `task`: the answer under its heading, after the description where the model must give one.

    >>> answer("Black.", description="Likes it bitter.")
    '## User Description\nLikes it bitter.\n\n## Preferred Response\nBlack.'
    """
    about = f"{_DESCRIPTION}{_plain(description)}\n\n" if description else ""
    return f"{about}{_PREFERRED}{_plain(response)}"


def read_answer(completion: str) -> tuple[str | None, str]:
    r"""The description in a completion, if it gives one, and the answer without its heading.

    >>> read_answer("## User Description\nLikes it bitter.\n\n## Preferred Response\nBlack.")
    ('Likes it bitter.', 'Black.')
    >>> read_answer("Black.")
    (None, 'Black.')
    """
    before, heading, after = completion.partition(_PREFERRED)
    if not heading:
        before, after = "", completion
    _, heading, described = before.partition(_DESCRIPTION)
    return (described.strip() if heading else None), after.strip()


def _plain(text: str) -> str:
    """A payload in which no line can pass for one of our headings."""
    return _HEADINGS.sub(r"\\\1", text)


@dataclass(frozen=True)
class Window:
    """Rows of one person.

    Attributes:
        user: who.
        shots: rows that are shown, in order.
        target: the row that is asked.
    """

    user: str
    shots: tuple[int, ...]
    target: int


def windows(
    comparisons: Comparisons, n_shots: int, *, repeats: int | None = None, seed: int = 0
) -> tuple[list[Window], dict[str, int]]:
    """Every person's decided rows in windows of n shots and one target, shuffled anew for each repeat.

    A target's question is never among its shots. Where all of a person's rows ask the same, it is the pair of
    responses that must not recur.

    Args:
        comparisons: with users.
        n_shots: N, >= 0; 0 is the population without shots.
        repeats: passes over each person's rows; None is the paper's 2 (N + 1).
        seed: of the shuffles.

    Returns:
        The windows, person by person, and reason -> how many rows, people or windows were left out.

    Raises:
        SettingsError: n_shots or repeats is below its least.
        DataError: no window is left.
    """
    if n_shots < 0 or (repeats is not None and repeats < 1):
        raise SettingsError(f"n_shots must be at least 0 and repeats at least 1: got {n_shots!r} and {repeats!r}.")
    strength = comparisons.numpy("strength")
    dropped: Counter[str] = Counter()
    dropped["rows without a user"] = comparisons.table["user"].null_count
    found: list[Window] = []
    for number, (user, rows) in enumerate(sorted(rows_of(comparisons).items())):
        decided = rows[strength[rows] != 0.5]
        dropped["ties"] += len(rows) - len(decided)
        if len(decided) < n_shots + 1:
            dropped[f"people with fewer than {n_shots + 1} decided rows"] += 1
            continue
        asked = _questions(comparisons, decided)
        rng = np.random.default_rng([seed, number])
        for _ in range(2 * (n_shots + 1) if repeats is None else repeats):
            order = rng.permutation(decided)
            for start in range(0, len(order) - n_shots, n_shots + 1):
                *shots, target = order[start : start + n_shots + 1].tolist()
                if any(asked[shot] == asked[target] for shot in shots):
                    dropped["windows whose target's question is among the shots"] += 1
                else:
                    found.append(Window(user, tuple(shots), target))
    counted = {reason: n for reason, n in dropped.items() if n}
    if not found:
        raise DataError(
            f"No window of {n_shots} shots and a target is left of {len(comparisons)} comparisons by "
            f"{len(comparisons.users)} people ({counted}). Bring people with more comparisons, or lower n_shots."
        )
    return found, counted


def _questions(comparisons: Comparisons, rows: NDArray[np.int64]) -> dict[int, Any]:
    """What each of a person's rows asks."""
    own = comparisons.take(rows).table
    prompts, first, second = (own[name].to_pylist() for name in ("prompt", "chosen", "rejected"))
    asks_one = len(set(prompts)) == 1
    keys: list[Any] = [frozenset(pair) for pair in zip(first, second, strict=True)] if asks_one else prompts
    return dict(zip(rows.tolist(), keys, strict=True))


def shots_of(comparisons: Comparisons) -> list[Shot]:
    """Each row as a shot, the preferred answer first; messages as running text, a context before the question."""
    shots = []
    for row in comparisons.table.select(["prompt", "chosen", "rejected", "strength", "context", "form"]).to_pylist():
        first, second = (readable(row[name], row["form"]) for name in ("chosen", "rejected"))
        question = question_of(row["prompt"], row["context"], row["form"])
        shots.append(Shot(question, *((first, second) if row["strength"] >= 0.5 else (second, first))))
    return shots


def question_of(prompt: str, context: str | None, form: Form | None) -> str:
    """What is asked, as running text, a context before it; Raises as `readable`."""
    asked = readable(prompt, form)
    return f"{context}\n\n{asked}" if context else asked


def written(
    comparisons: Comparisons,
    n_shots: int,
    *,
    repeats: int | None = None,
    descriptions: Mapping[str, str] | None = None,
    described_in: Literal["prompt", "completion"] = "completion",
    max_characters: int = 16_000,
    seed: int = 0,
) -> tuple[Comparisons, dict[str, int]]:
    """Windows as comparisons that any method for language models trains on: prompt, chosen and rejected as text.

    Args:
        comparisons: with users.
        n_shots: N.
        repeats: see `windows`.
        descriptions: of people by name, for rationalisation (RAT); of whom there is none, none is written.
        described_in: "completion" for a model that must infer the description before it answers, "prompt" to tell it.
        max_characters: longest prompt and answer; of a longer one whole shots are left out, the first ones first.
        seed: of the shuffles.

    Returns:
        A row for each window, and reason -> what was left out.

    Raises:
        SettingsError, DataError: as for `windows`.
    """
    found, dropped = windows(comparisons, n_shots, repeats=repeats, seed=seed)
    shots, sure = shots_of(comparisons), np.abs(comparisons.numpy("strength") - 0.5) + 0.5
    n_left_out = 0
    rows = []
    for window in found:
        known = (descriptions or {}).get(window.user)
        told, given = (known, None) if described_in == "prompt" else (None, known)
        target = shots[window.target]
        chosen, rejected = (answer(text, description=given) for text in (target.preferred, target.dispreferred))
        room = max_characters - max(len(chosen), len(rejected))
        shown = [shots[row] for row in window.shots]
        prompt, n_fitting = fitting(shown, target.question, room, description=told)
        n_left_out += len(shown) - n_fitting
        pair = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "user": window.user}
        rows.append({**pair, "strength": float(sure[window.target])})
    if n_left_out:
        dropped["shots that did not fit"] = n_left_out
    return Comparisons.from_rows(rows), dropped


def fitting(shots: Sequence[Shot], question: str, room: int, *, description: str | None = None) -> tuple[str, int]:
    """The task with as many of the last shots as there is room for, in characters; and how many these are."""
    for first in range(len(shots) + 1):
        text = task(shots[first:], question, description=description)
        if len(text) <= room:
            break
    return text, len(shots) - first
