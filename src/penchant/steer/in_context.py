"""Tell the model in words what was learnt of a person: the baseline of every personalised result.

Wishes, a direction and a few past choices become one short system text. The same input gives the same text, so that
two arms that are compared differ in what they know and in nothing else. What did not fit is named, never dropped
silently.

>>> brief(wishes=["Answer in German."], direction={"verbosity": -0.9, "humour": 0.3}).used
('Answer in German.', 'Above all less verbosity.', 'Somewhat more humour.')
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from penchant.errors import SettingsError
from penchant.records import Comparisons
from penchant.steer.neighbourhood import Policy

_DEGREES = ((0.8, "Above all"), (0.5, "Clearly"), (0.2, "Somewhat"))
_CUT = 160  # characters of a past prompt or answer that are shown


@dataclass(frozen=True)
class Brief:
    """What the model is told.

    Attributes:
        text: the system text; empty if nothing is known.
        used: each line that is in it, in order.
        left_out: each line that did not fit.
    """

    text: str
    used: tuple[str, ...]
    left_out: tuple[str, ...]


def direction_lines(direction: Mapping[str, float]) -> list[str]:
    """Weights as words, heaviest first: below a fifth of the length an attribute is not worth a line.

    Args:
        direction: weight of each named attribute; only its direction matters.

    Raises:
        SettingsError: a weight is not finite.

    >>> direction_lines({"length": -3.0, "warmth": 4.0})
    ['Above all more warmth.', 'Clearly less length.']
    """
    weights = np.array(list(direction.values()), dtype=np.float64)
    if not np.isfinite(weights).all():
        raise SettingsError(f"Weights of a direction must be finite: got {dict(direction)}.")
    length = float(np.linalg.norm(weights))
    lines = []
    for name in sorted(direction, key=lambda name: (-abs(direction[name]), name)):
        share = abs(direction[name]) / length if length else 0.0
        degree = next((word for least, word in _DEGREES if share >= least - 1e-9), None)
        if degree:
            lines.append(f"{degree} {'more' if direction[name] > 0 else 'less'} {_one_line(name)}.")
    return lines


def in_words(names: Sequence[str]) -> Callable[[ArrayLike], str]:
    """A direction's condition in words, for policies that were never trained on integer weights."""

    def condition(direction: ArrayLike) -> str:
        weights = np.asarray(direction, dtype=np.float64).tolist()
        return "\n".join(["Preferences for the answer:", *direction_lines(dict(zip(names, weights, strict=True)))])

    return condition


def choice_lines(comparisons: Comparisons) -> list[str]:
    """Past choices as lines, surest first, then in their own order; ties say nothing and are left out."""
    prompts, chosen, rejected, strength = (
        comparisons.table[name].to_pylist() for name in ("prompt", "chosen", "rejected", "strength")
    )
    lines = []
    for row in sorted(range(len(comparisons)), key=lambda row: (-abs(strength[row] - 0.5), row)):
        if strength[row] == 0.5:
            continue
        liked, other = (chosen[row], rejected[row]) if strength[row] > 0.5 else (rejected[row], chosen[row])
        lines.append(f'Asked "{_cut(prompts[row])}", they liked "{_cut(liked)}" better than "{_cut(other)}".')
    return lines


def brief(
    *,
    wishes: Sequence[str] = (),
    direction: Mapping[str, float] | None = None,
    comparisons: Comparisons | None = None,
    max_examples: int = 3,
    max_characters: int = 1500,
) -> Brief:
    """One system text from all that was learnt: standing wishes first, then trade-offs, then examples.

    Args:
        wishes: in words, the most important first; repeated ones count once.
        direction: weight of each named attribute.
        comparisons: of this person; the surest become examples.
        max_examples: most examples shown.
        max_characters: longest text; a line that would not fit is left out whole.

    Raises:
        SettingsError: a limit is below zero, or a weight is not finite.
    """
    if max_examples < 0 or max_characters < 0:
        raise SettingsError(f"Limits must not be below zero: got {max_examples!r} and {max_characters!r}.")
    lines = [line for line in (_one_line(wish) for wish in wishes) if line]
    lines += direction_lines(direction or {})
    examples = choice_lines(comparisons) if comparisons is not None else []
    lines = list(dict.fromkeys(lines + examples[:max_examples]))
    text, used, left_out = "What this person wants:", [], []
    for line in lines:
        longer = f"{text}\n- {line}"
        if len(longer) <= max_characters:
            text = longer
            used.append(line)
        else:
            left_out.append(line)
    return Brief(text if used else "", tuple(used), tuple(left_out + examples[max_examples:]))


class InContext:
    """Any policy, told what is known of a person.

    Args:
        policy: what is sampled.
        max_examples: most past choices shown.
        max_characters: longest system text.
    """

    def __init__(self, policy: Policy, *, max_examples: int = 3, max_characters: int = 1500):
        self.policy, self.max_examples, self.max_characters = policy, max_examples, max_characters

    def brief(
        self,
        *,
        wishes: Sequence[str] = (),
        direction: Mapping[str, float] | None = None,
        comparisons: Comparisons | None = None,
    ) -> Brief:
        """What the policy would be told; see the function `brief`."""
        return brief(
            wishes=wishes,
            direction=direction,
            comparisons=comparisons,
            max_examples=self.max_examples,
            max_characters=self.max_characters,
        )

    def sample(
        self,
        prompts: Sequence[str],
        n: int = 1,
        *,
        wishes: Sequence[str] = (),
        direction: Mapping[str, float] | None = None,
        comparisons: Comparisons | None = None,
        temperature: float = 0.7,
        max_new_tokens: int = 64,
        seed: int = 0,
    ) -> list[list[str]]:
        """Sample n answers to each prompt by the policy that knows these wishes, this direction and these choices."""
        told = self.brief(wishes=wishes, direction=direction, comparisons=comparisons)
        return self.policy.sample(
            prompts,
            n,
            condition=told.text or None,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )


def _one_line(text: str) -> str:
    """A person's words on one line, so that they can forge neither a bullet nor a heading."""
    return " ".join(text.split()).lstrip("-*# ")


def _cut(text: str) -> str:
    line = " ".join(text.split()).replace('"', "'")
    return line if len(line) <= _CUT else line[: _CUT - 1] + "…"
