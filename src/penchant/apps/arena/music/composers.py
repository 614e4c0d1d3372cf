"""Two composers: a chorale out of a grammar of harmony, and a groove out of Euclidean rhythms and a Markov melody.

Both write a score, which needs no synthesiser; `sound` plays it.

Source:
    Rohrmeier (2011), Towards a generative syntax of tonal harmony: regions of tonic, dominant and predominant that
    expand into each other; here without modulation.
    Toussaint (2005), The Euclidean algorithm generates traditional musical rhythms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.apps.arena.music.brief import PROGRAMS, Brief

Pitches = NDArray[np.int64]

DRUMS = -1  # instead of a program
_BASS = 33  # the program of an electric bass
_KICK, _SNARE, _HAT, _CRASH = 36, 38, 42, 49
_RANGES = ((40, 60), (48, 67), (55, 74), (60, 81))  # bass, tenor, alto, soprano, as MIDI counts
_LEAPS = (12, 7, 7, 9)  # semitones, in the same order
_PHRASE = 8  # chords

# A region becomes two parts; small letters are chords. Of several rules one is drawn.
_RULES = {"T": (("T", "T"), ("D", "t")), "D": (("S", "d"),), "S": (("S", "S"),)}
_DEGREES = {"t": ((0, 5, 2), (0.65, 0.25, 0.1)), "s": ((3, 1), (0.55, 0.45)), "d": ((4, 6), (0.8, 0.2))}

# Of the groove: how likely each degree follows another, columns I ii iii IV V vi.
_FOLLOWS = np.array(
    [
        [0, 1, 1, 4, 4, 4],
        [1, 0, 0, 2, 5, 1],
        [0, 1, 0, 3, 0, 4],
        [3, 1, 0, 0, 4, 2],
        [4, 0, 0, 3, 0, 3],
        [1, 2, 1, 5, 3, 0],
    ]
)


class Note(NamedTuple):
    """One note.

    Attributes:
        start: beats from the beginning.
        length: beats.
        pitch: MIDI number, 69 is A at 440 Hz; of drums, the drum.
        velocity: 1 to 127.
        part: place in `Score.parts`.
    """

    start: float
    length: float
    pitch: int
    velocity: int
    part: int


@dataclass(frozen=True)
class Score:
    """Notes and who plays them.

    Attributes:
        bpm: beats a minute.
        seconds: length.
        parts: programs of General MIDI, or `DRUMS`.
        notes: in order of time.
    """

    bpm: float
    seconds: float
    parts: tuple[int, ...]
    notes: tuple[Note, ...]


def chorale(brief: Brief, rng: np.random.Generator) -> Score:
    """Four voices that a grammar and the rules of voice leading wrote; the texture and passing notes give them life."""
    n_slots = 2 if brief.beats == 4 else 1  # chords a bar
    width = brief.beats / n_slots
    voices = four_voices(brief, (brief.bars - 1) * n_slots + 1, rng)
    end = brief.seconds * brief.bpm / 60
    notes = []
    for place, chord in enumerate(voices):
        start = place * width
        is_last = place == len(voices) - 1
        length = end - start if is_last else width
        accent = 6 * (place % n_slots == 0) + round(8 * np.sin(np.pi * (place % _PHRASE) / _PHRASE))
        bass, tenor, alto, soprano = (int(pitch) for pitch in chord)
        notes.append(Note(start, length, bass, 72 + accent, 2))
        if is_last or brief.texture == "held":
            notes += [Note(start, length, pitch, 62 + accent, 1) for pitch in (tenor, alto)]
        elif brief.texture == "repeated":
            notes += [Note(start + k / 2, 0.5, p, 60 + accent, 1) for k in range(int(2 * width)) for p in (tenor, alto)]
        else:
            figure = (tenor, alto, soprano - 12 if soprano - 12 > tenor else tenor, alto)
            notes += [Note(start + k / 2, 0.5, figure[k % 4], 62 + accent, 1) for k in range(int(2 * width))]
        ornament = None if is_last else _between(soprano, int(voices[place + 1][3]), brief, rng)
        if ornament is None:
            notes.append(Note(start, length, soprano, 92 + accent, 0))
        else:
            notes.append(Note(start, length - 0.5, soprano, 92 + accent, 0))
            notes.append(Note(start + length - 0.5, 0.5, ornament, 84 + accent, 0))
    programs = [PROGRAMS[name] for name in brief.instruments]
    return Score(brief.bpm, brief.seconds, (*programs, PROGRAMS["cello"]), tuple(sorted(notes)))


def _between(here: int, there: int, brief: Brief, rng: np.random.Generator) -> int | None:
    """A passing note through a third, or a neighbour of a repeated note; both off the beat and in the scale."""
    scale = [pitch for pitch in range(128) if pitch % 12 in brief.scale]
    if here not in scale or there not in scale or rng.random() > 0.4 + brief.liveliness / 2:
        return None
    at = scale.index(here)
    steps = scale.index(there) - at
    return {0: scale[at + 1], 2: scale[at + 1], -2: scale[at - 1]}.get(steps)


def progression(n_chords: int, rng: np.random.Generator) -> list[int]:
    """Degrees, 0 is the tonic: phrases that end half-way on the dominant, the last one home.

    >>> progression(5, np.random.default_rng(1))[-2:]
    [4, 0]
    """
    symbols: list[str] = []
    while (left := n_chords - len(symbols)) > 0:
        if left > _PHRASE + 1:  # an open phrase; what is left is at least two chords, a cadence
            opening = int(rng.integers(_PHRASE // 2, _PHRASE - 1))
            symbols += _expand("T", opening, rng) + _expand("D", _PHRASE - opening, rng)
        else:
            symbols += (
                ["t"] if left == 1 else (["t"] if left > 2 else []) + _expand("T", max(left - 3, 0), rng) + ["d", "t"]
            )
    degrees: list[int] = []
    for place, symbol in enumerate(symbols):
        choices, odds = _DEGREES[symbol]
        fresh = np.array(odds) * [0.05 if degrees and degrees[-1] == choice else 1 for choice in choices]
        is_fixed = place % _PHRASE in (0, _PHRASE - 1) or place >= n_chords - 2
        degrees.append(choices[0] if is_fixed else int(rng.choice(choices, p=fresh / fresh.sum())))
    return degrees


def _expand(symbol: str, length: int, rng: np.random.Generator) -> list[str]:
    """`length` chords that a region becomes."""
    if length <= 1 or symbol.islower():
        return [symbol.lower()] * length
    rules = _RULES[symbol]
    # A long tonic region is split, so that no dominant is prepared for bars.
    first, second = rules[0] if length > 4 else rules[rng.integers(len(rules))]
    after = 1 if second.islower() else int(rng.integers(1, length))
    return _expand(first, length - after, rng) + _expand(second, after, rng)


def four_voices(brief: Brief, n_chords: int, rng: np.random.Generator) -> Pitches:
    """Bass, tenor, alto and soprano of a progression: the smoothest way that keeps every rule, by dynamic programming.

    Rules: every chord complete, no leading note twice, no voice crossing or overlapping, no parallel fifths, octaves or
    unisons, no augmented second, tritone, seventh or wide leap in a voice, the leading note rises to the tonic.

    Returns:
        MIDI numbers, [chords, 4].
    """
    for _ in range(50):  # a progression that cannot be set is drawn anew
        degrees = progression(n_chords, rng)
        last = len(degrees) - 1
        layers = [_voicings(degree, brief, is_close=place >= last - 1) for place, degree in enumerate(degrees)]
        layers[-1] = layers[-1][layers[-1][:, 3] % 12 == brief.tonic]
        costs = [_taste(layer, rng) for layer in layers]
        total, back = costs[0], []
        for before, after, cost in zip(layers, layers[1:], costs[1:], strict=False):
            ways = total[:, None] + _motion(before, after, brief)
            back.append(ways.argmin(axis=0))
            total = ways.min(axis=0) + cost
        if np.isfinite(total).any():
            path = [int(total.argmin())]
            for pointers in reversed(back):
                path.append(int(pointers[path[-1]]))
            return np.array([layer[at] for layer, at in zip(layers, reversed(path), strict=True)])
    raise AssertionError(f"no progression of {n_chords} chords keeps the rules")


def _triad(degree: int, brief: Brief, *, raised: bool) -> tuple[int, int, int]:
    """Pitch classes of root, third and fifth; `raised`: with the leading note in minor."""
    leading = (brief.tonic + 11) % 12
    scale = [*brief.scale[:6], leading] if raised and degree in (4, 6) else brief.scale
    root, third, fifth = (scale[(degree + step) % 7] for step in (0, 2, 4))
    return root, third, fifth


def _voicings(degree: int, brief: Brief, *, is_close: bool) -> Pitches:
    """Every way to give a chord to four voices, [ways, 4]; `is_close`: of a cadence, on its root."""
    root, third, fifth = _triad(degree, brief, raised=True)
    is_diminished = (fifth - root) % 12 == 6
    basses = (third,) if is_diminished else (root,) if is_close else (root, third)
    choices = [
        [pitch for pitch in range(low, high + 1) if pitch % 12 in (basses if voice == 0 else (root, third, fifth))]
        for voice, (low, high) in enumerate(_RANGES)
    ]
    ways = np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, 4)
    gaps = np.diff(ways, axis=1)
    classes = ways % 12
    keep = (gaps > 0).all(axis=1) & (gaps[:, 1:] <= 12).all(axis=1) & (gaps[:, 0] <= 19)
    keep &= np.all([(classes == pitch).any(axis=1) for pitch in (root, third, fifth)], axis=0)
    keep &= (classes == (brief.tonic + 11) % 12).sum(axis=1) <= 1
    return ways[keep]


def _taste(ways: Pitches, rng: np.random.Generator) -> NDArray[np.float64]:
    """Cost of each voicing: voices in the middle of their ranges, and a little chance, so that pieces differ."""
    off: NDArray[np.float64] = np.abs(ways - np.mean(_RANGES, axis=1)).sum(axis=1)
    return off / 6 + rng.uniform(0, 3, len(ways))


def _motion(before: Pitches, after: Pitches, brief: Brief) -> NDArray[np.float64]:
    """Cost of going from each voicing to each other, [before, after]; infinite where a rule is broken."""
    old, new = before[:, None], after[None]
    moves = new - old
    size = np.abs(moves)
    broken = ((size > _LEAPS) | np.isin(size, (6, 10, 11))).any(axis=2)  # no tritone, no seventh
    broken |= (new[..., :-1] > old[..., 1:]).any(axis=2) | (new[..., 1:] < old[..., :-1]).any(axis=2)
    for low, high in combinations(range(4), 2):
        interval, next_interval = (old[..., high] - old[..., low]) % 12, (new[..., high] - new[..., low]) % 12
        broken |= (
            np.isin(interval, (0, 7)) & (interval == next_interval) & (moves[..., low] != 0) & (moves[..., high] != 0)
        )
    leading = (brief.tonic + 11) % 12
    sixth = brief.scale[5]
    for one, other in ((leading, sixth), (sixth, leading)):
        broken |= ((size == 3) & (old % 12 == one) & (new % 12 == other)).any(axis=2)
    goes_home = (after % 12 == brief.tonic).any()  # the next chord has the tonic
    broken |= bool(goes_home) & ((old % 12 == leading) & (moves != 1)).any(axis=2)
    cost = size[..., 1:].sum(axis=2) + 0.3 * size[..., 0] + 4.0 * (moves[..., 3] == 0)
    return np.where(broken, np.inf, cost)


def groove(brief: Brief, rng: np.random.Generator) -> Score:
    """A loop of chords under a melody that walks a pentatonic scale, on rhythms as even as can be."""
    n_steps = 4 * brief.beats  # sixteenths in a bar
    loop = _loop(rng)
    end = brief.seconds * brief.bpm / 60
    rhythm, bass, comp = (
        euclid(round(n_steps * share), n_steps)
        for share in (0.25 + 0.25 * brief.liveliness, 0.15 + 0.25 * brief.liveliness, 0.2)
    )
    draws = {section: rng.random((2, n_steps)) for section in "AB"}  # the same numbers bend to other chords
    walk = _Walk(brief)
    notes = []
    for bar in range(brief.bars - 1):
        triad = _triad(loop[bar % 4], brief, raised=False)
        at = bar * brief.beats
        section = "AABA"[bar // 2 % 4]
        onsets = np.flatnonzero(rhythm)
        for step, length in zip(onsets, np.diff([*onsets, n_steps]), strict=True):
            pitch = walk.to(draws[section][bar % 2, step], triad if step % 4 == 0 else None)
            notes.append(Note(at + step / 4, min(length, 6) / 4, pitch, 88 + 10 * (step % 4 == 0), 0))
        low = [36 + (pitch - 36) % 12 for pitch in triad]
        notes += [
            Note(at + step / 4, 0.5, low[2 if step > n_steps // 2 else 0], 88, 2) for step in np.flatnonzero(bass)
        ]
        hits = [0] if brief.texture == "held" else np.flatnonzero(comp)
        length = brief.beats if brief.texture == "held" else 0.75
        notes += [Note(at + s / 4, length, 52 + (p - 52) % 12, 62, 1) for s in hits for p in triad]
        if brief.drums:
            notes += _drums(at, n_steps, brief)
    start = (brief.bars - 1) * brief.beats
    home = _triad(0, brief, raised=False)
    notes += [Note(start, end - start, 52 + (pitch - 52) % 12, 62, 1) for pitch in home]
    notes += [Note(start, end - start, walk.home, 94, 0), Note(start, end - start, 36 + (brief.tonic - 36) % 12, 88, 2)]
    if brief.drums and brief.liveliness >= 0.3:
        notes.append(Note(start, end - start, _CRASH, 80, 3))
    programs = [PROGRAMS[name] for name in brief.instruments]
    return Score(brief.bpm, brief.seconds, (*programs, _BASS, DRUMS), tuple(sorted(notes)))


def euclid(n_onsets: int, n_steps: int) -> NDArray[np.bool_]:
    """Onsets as evenly as whole steps allow, the first on step 0.

    >>> "".join("x" if hit else "." for hit in euclid(3, 8))  # the tresillo
    'x..x..x.'
    """
    return np.arange(n_steps) * n_onsets % n_steps < n_onsets


def _loop(rng: np.random.Generator) -> list[int]:
    """Four degrees from the tonic on, by a Markov chain."""
    degrees = [0]
    for _ in range(3):
        odds = _FOLLOWS[degrees[-1]].astype(float)
        degrees.append(int(rng.choice(6, p=odds / odds.sum())))
    return degrees


class _Walk:
    """A Markov chain on a pentatonic scale over two octaves: near notes are likely, chord notes more so on a beat."""

    def __init__(self, brief: Brief):
        degrees = (0, 1, 2, 4, 5) if brief.mode == "major" else (0, 2, 3, 4, 6)
        classes = [brief.scale[degree] for degree in degrees]
        self.pitches = np.array([pitch for pitch in range(62, 85) if pitch % 12 in classes])
        self.home = int(next(pitch for pitch in self.pitches if pitch >= 66 and pitch % 12 == brief.tonic))
        self.at = int(np.flatnonzero(self.pitches == self.home)[0])
        distance = np.abs(np.subtract.outer(np.arange(len(self.pitches)), np.arange(len(self.pitches))))
        self.odds = np.exp(-distance / 1.3) * np.where(distance == 0, 0.35, 1.0)

    def to(self, draw: float, triad: Sequence[int] | None) -> int:
        """The next pitch; `draw` in [0, 1) picks it."""
        odds = self.odds[self.at]
        if triad is not None:
            odds = odds * np.where(np.isin(self.pitches % 12, triad), 1.0, 0.1)
        total = np.cumsum(odds)
        self.at = int(np.searchsorted(total, draw * total[-1], side="right"))
        return int(self.pitches[self.at])


def _drums(at: float, n_steps: int, brief: Brief) -> list[Note]:
    """One bar: kick, back beat and hats; fewer of them in quiet music."""
    kick = euclid(brief.beats if brief.liveliness > 0.75 else max(1, brief.beats // 2), n_steps)
    snare = np.roll(euclid(brief.beats // 2, n_steps), 4)  # beats two and four; of a waltz, two
    hats = euclid(round(n_steps * (0.25 + 0.4 * brief.liveliness)), n_steps)
    played = [(_KICK, kick, 100), (_HAT, hats, 58)] + [(_SNARE, snare, 84)] * (brief.liveliness >= 0.3)
    loud = 0.6 + 0.4 * brief.liveliness
    return [
        Note(at + step / 4, 0.25, drum, round(velocity * loud), 3)
        for drum, pattern, velocity in played
        for step in np.flatnonzero(pattern)
    ]
