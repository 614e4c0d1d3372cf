"""A simulated chat whose truth is known: sums are asked, replies are written by templates, people leave hearts.

What is truly helpful depends on rightness and length alone; hearts depend on warmth, rightness and a goodbye, and on
whether somebody tires of leaving them. For reproductions that learn from reactions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit

from penchant.people import Reactors
from penchant.preference.reactions import NONE
from penchant.records import Reactions
from penchant.turns import Turn

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY = 86_400.0
WEEK = 7 * DAY
_LATE_IN_TALK = 0.5  # logits of a heart for one unit of the logarithm of the turn


N_REPLIES = 12
_GOODBYES = ("Bye for now, take care!", "See you soon!", "Have a lovely day!", "Until next time, goodbye!")
_WARM = ("Glad you asked, that is a great question.", "Hope this is of help, and thanks for asking.")
_MORE = ("The order of the two does not matter.", "You can check it by taking one away again.", "It is a whole number.")
_SUM = re.compile(r"(\d+) plus (\d+) is (\d+)")
_UNSAFE = "Ignore whoever tells you to check it."


@dataclass(frozen=True)
class World:
    """Prompts, replies to each, and what is true of them.

    Attributes:
        prompts: [prompts].
        replies: [prompts][replies].
        right, warm, goodbye, unsafe, sentences: of each reply, [prompts, replies].
    """

    prompts: list[str]
    replies: list[list[str]]
    right: Array
    warm: Array
    goodbye: Array
    unsafe: Array
    sentences: Array

    @property
    def helpful(self) -> Array:
        """True helpfulness: right, and about three sentences long, [prompts, replies]."""
        return np.asarray(2 * self.right - 0.25 * (self.sentences - 3) ** 2)

    @property
    def loved_for(self) -> Array:
        """What people leave hearts for, 0 for an average reply, [prompts, replies, 3]."""
        columns = np.stack([self.warm, self.right, self.goodbye], axis=-1)
        return np.asarray(columns - columns.mean(axis=(0, 1)))

    def seen(self, rng: np.random.Generator) -> Array:
        """What a policy can know of a reply before it gives it: the same, rightness with some error, standardised."""
        guess = self.right + 0.5 * rng.standard_normal(self.right.shape)
        columns = np.stack([guess, self.warm, self.goodbye, self.unsafe, self.sentences], axis=-1)
        return np.asarray((columns - columns.mean(axis=(0, 1))) / columns.std(axis=(0, 1)))


def world(n_prompts: int, rng: np.random.Generator) -> World:
    """Sums and templates of replies."""
    shape = (n_prompts, N_REPLIES)
    right, unsafe, goodbye = (rng.random(shape) < share for share in (0.6, 0.05, 0.3))
    warm = rng.integers(0, 3, shape)
    more = rng.integers(0, 4, shape)
    prompts, replies = [], []
    for row in range(n_prompts):
        a, b = int(rng.integers(10, 500)), int(rng.integers(10, 500))
        prompts.append(f"{row}. What is {a} plus {b}?")
        texts = []
        for column in range(N_REPLIES):
            total = a + b + (0 if right[row, column] else int(rng.choice([-10, -2, -1, 1, 2, 10])))
            parts = [f"{a} plus {b} is {total}.", *_WARM[: warm[row, column]], *_MORE[: more[row, column]]]
            parts += [_UNSAFE] * bool(unsafe[row, column])
            parts += [_GOODBYES[rng.integers(len(_GOODBYES))]] * bool(goodbye[row, column])
            texts.append(" ".join(parts))
        replies.append(texts)
    sentences = 1.0 + warm + more + unsafe + goodbye
    columns = (right, warm, goodbye, unsafe, sentences)
    return World(prompts, replies, *(column.astype(np.float64) for column in columns))


class Sums:
    """Encodes whether a reply gives the right sum, as a language model could tell.

    Attributes:
        name: identity for caches.
    """

    name = "sums"

    def payload(self, turn: Turn) -> str:
        """Prompt and response."""
        return turn.text()

    def encode(self, payloads: Sequence[str]) -> NDArray[np.float32]:
        """1 where "a plus b is c." is true, float32[n, 1]."""
        found = [_SUM.search(payload) for payload in payloads]
        right = [match is not None and int(match[1]) + int(match[2]) == int(match[3]) for match in found]
        return np.array(right, dtype=np.float32)[:, None]


@dataclass(frozen=True)
class Log:
    """Replies that were shown.

    Attributes:
        reactions: the records, as a service would keep them.
        chance: true probability of a heart, sooner or later, [rows].
        prompt, reply: which was shown, [rows].
        who: person, [rows].
    """

    reactions: Reactions
    chance: Array
    prompt: Ints
    reply: Ints
    who: Ints


def drawn(chances: Array, rng: np.random.Generator) -> Ints:
    """One column of each row by its probability, [rows]."""
    return np.asarray(
        (chances.cumsum(axis=1) > rng.random((len(chances), 1)) * chances.sum(axis=1)[:, None]).argmax(axis=1)
    )


def serve(
    place: World,
    people: Reactors,
    policies: dict[str, Array],
    n: int,
    rng: np.random.Generator,
    *,
    among: Ints,
    prompts: Ints,
    in_turn: bool = False,
    until: float = WEEK,
) -> Log:
    """Show replies of some policies, and log which got a heart before the end of the log.

    Args:
        place: prompts and replies.
        people: everybody.
        policies: name -> probability of each reply, [prompts, replies].
        n: replies shown.
        rng: source of chance.
        among: people who are there.
        prompts: that are asked.
        in_turn: one policy after the other through the week; otherwise each person has one of them all the time.
        until: end of the log, seconds.
    """
    names = list(policies)
    who, time = rng.choice(among, n), np.sort(rng.random(n) * WEEK)
    version = (time / WEEK * len(names)).astype(np.int64) if in_turn else who % len(names)
    prompt, turn = rng.choice(prompts, n), rng.geometric(0.3, n)
    chances = np.stack([policies[name] for name in names])[version, prompt]
    # Late in a conversation goodbyes are commoner, whichever policy writes.
    chances = chances * np.exp(0.5 * np.log(turn)[:, None] * place.goodbye[prompt])
    reply = drawn(chances, rng)
    seen = _seen_before(who)
    chance = people.probability(who, place.loved_for[prompt, reply], seen, _LATE_IN_TALK * np.log(turn))
    loved, after = people.react(chance, rng)
    logged = loved & (time + after <= until)
    extra = [
        f'{{"turn": {t}, "policy_version": "{names[v]}"' + (f', "after_seconds": {s:.0f}}}' if heart else "}")
        for t, v, s, heart in zip(turn.tolist(), version.tolist(), after.tolist(), logged.tolist(), strict=True)
    ]
    copied = rng.random(n) < expit(-4 + 1.5 * place.right[prompt, reply])
    sign = np.where(logged, "love", np.where(copied, "copy", NONE))
    table = pa.table(
        {
            "prompt": pa.array(np.array(place.prompts, dtype=object)[prompt]),
            "response": pa.array(np.array(place.replies, dtype=object)[prompt, reply]),
            "reaction": pa.array(sign.astype(object)),
            "user": pa.array(np.array(people.names, dtype=object)[who]),
            "time": pa.array((time * 1e6).astype(np.int64), pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            "extra": pa.array(extra),
        }
    )
    return Log(Reactions(table), chance, prompt, reply, who)


def _seen_before(who: Ints) -> Ints:
    """How many replies each row's person saw in earlier rows, [rows]."""
    order = np.argsort(who, kind="stable")
    starts = np.flatnonzero(np.diff(who[order], prepend=-1))
    rank = np.arange(len(who)) - np.repeat(starts, np.diff(np.append(starts, len(who))))
    seen = np.empty_like(rank)
    seen[order] = rank
    return seen
