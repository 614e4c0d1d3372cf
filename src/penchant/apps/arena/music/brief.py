"""What a prompt asks of a composer: key, mode, tempo, metre, instruments, drums and liveliness.

Words that it knows decide; what they leave open is drawn from the request's own generator, so that other prompts and
other seeds give other music, and the same ones the same.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from penchant.apps.arena.systems import Request
from penchant.errors import DataError

Mode = Literal["major", "minor"]
Texture = Literal["held", "broken", "repeated"]

SECONDS = 20.0  # of a clip where nobody says
LONGEST = 300.0  # seconds; the file must stay below what an arena takes
TEMPI = (30.0, 300.0)  # beats a minute that can still be heard as beats
SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}  # semitones
_TONICS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}

# Programs of General MIDI, counted from 0.
PROGRAMS = {
    "piano": 0, "harpsichord": 6, "music box": 10, "vibraphone": 11, "marimba": 12, "organ": 19,
    "guitar": 24, "violin": 40, "cello": 42, "harp": 46, "strings": 48, "choir": 52, "trumpet": 56, "brass": 61,
    "saxophone": 65, "oboe": 68, "clarinet": 71, "flute": 73, "synth": 81,
}  # fmt: skip

# words: mode, beats a minute, liveliness from 0 to 1, texture, instruments of the melody to draw from.
_MOODS: tuple[tuple[str, Mode, float, float, Texture, tuple[str, ...]], ...] = (
    ("sad melancholy lonely rain grief tears mournful", "minor", 66, 0.2, "broken", ("piano", "cello", "clarinet")),
    ("dark tense horror fear night mysterious ominous", "minor", 84, 0.4, "repeated", ("strings", "organ", "cello")),
    ("epic battle heroic dramatic war cinematic film", "minor", 126, 0.9, "repeated", ("brass", "strings", "trumpet")),
    ("happy joyful upbeat bright summer sunny party", "major", 126, 0.8, "broken", ("guitar", "flute", "piano")),
    ("calm peaceful ambient sleep lullaby gentle relaxing", "major", 63, 0.1, "held", ("harp", "music box", "flute")),
    ("dance techno house electronic club disco funk", "minor", 122, 0.9, "repeated", ("synth",)),
    ("lofi chill study mellow cosy", "major", 78, 0.4, "broken", ("vibraphone", "piano", "guitar")),
    ("jazz swing blues smoky", "major", 116, 0.6, "broken", ("saxophone", "vibraphone", "trumpet")),
    ("march triumphant anthem royal victory", "major", 108, 0.7, "repeated", ("trumpet", "brass", "organ")),
    ("folk country celtic rustic", "major", 112, 0.7, "broken", ("violin", "harp", "guitar")),
    ("hymn church sacred solemn baroque chorale", "major", 76, 0.2, "held", ("organ", "choir", "harpsichord")),
)  # fmt: skip


@dataclass(frozen=True)
class Brief:
    """What to compose.

    Attributes:
        tonic: pitch class, 0 is C.
        mode: major or minor.
        bpm: beats a minute.
        beats: in a bar.
        seconds: length of the clip.
        liveliness: 0 to 1; how many notes and drums.
        texture: how chords are played.
        instruments: names in `PROGRAMS`; the first has the melody, the second the chords.
        drums: whether drums may play.
    """

    tonic: int
    mode: Mode
    bpm: float
    beats: int
    seconds: float
    liveliness: float
    texture: Texture
    instruments: tuple[str, ...]
    drums: bool

    @property
    def scale(self) -> tuple[int, ...]:
        """Pitch classes of the seven degrees."""
        return tuple((self.tonic + step) % 12 for step in SCALES[self.mode])

    @property
    def bars(self) -> int:
        """Whole bars that fit; the last chord rings through what is left over."""
        return max(1, int(self.seconds * self.bpm / 60 / self.beats + 1e-9))


def generator(request: Request, system: str) -> np.random.Generator:
    """Random numbers that depend on the prompt, the seed and the system, and on nothing else."""
    told = f"{system}\n{request.seed}\n{' '.join(request.prompt.lower().split())}"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(told.encode()).digest(), "big"))


def brief(request: Request, rng: np.random.Generator) -> Brief:
    """What a request asks for.

    Raises:
        DataError: it wants something other than music without a voice, too long a clip or an impossible tempo.

    >>> asked = brief(Request("a slow sad waltz in F# minor for harp", "audio"), np.random.default_rng(0))
    >>> asked.tonic, asked.mode, asked.beats, asked.instruments[0]
    (6, 'minor', 3, 'harp')
    """
    if request.modality != "audio" or request.wants_voice:
        raise DataError(f"This system makes music without a voice: it was asked for {_wanted(request)}.")
    seconds = SECONDS if request.duration is None else request.duration
    if not 1 <= seconds <= LONGEST:
        raise DataError(f"`duration` must be between 1 and {LONGEST:g} seconds: got {seconds!r}.")
    text = " ".join(re.findall(r"[a-z0-9#']+", _plain(request.prompt)))
    without = set(re.findall(r"\b(?:no|without) (\w+)", text))
    text = re.sub(r"\b(?:no|without) \w+", "", text)
    words = set(text.split())
    moods = [mood for mood in _MOODS if words & set(mood[0].split())] or [_MOODS[rng.integers(len(_MOODS))]]
    _, mode, bpm, liveliness, texture, usual = moods[0]
    tonic, mode = _key(text, mode, rng)
    bpm *= rng.uniform(0.94, 1.06) * (0.75 if words & {"slow", "slowly"} else 1.3 if words & {"fast", "quick"} else 1)
    said = re.search(r"\b(\d{2,3}) ?bpm\b", text)
    told = min(max(float(said[1]), TEMPI[0]), TEMPI[1]) if said else round(min(max(bpm, 50.0), 180.0))
    bpm = request.bpm or told
    if not TEMPI[0] <= bpm <= TEMPI[1]:
        raise DataError(f"`bpm` must be between {TEMPI[0]:g} and {TEMPI[1]:g} beats a minute: got {bpm!r}.")
    named = sorted((name for name in PROGRAMS if re.search(rf"\b{name}s?\b", text)), key=text.index)
    others = [name for name in usual if name not in {*named, *without}]
    spare = [name for name in ("piano", "strings", "harp", "organ") if name not in {*named, *usual, *without}]
    return Brief(
        tonic,
        mode,
        bpm,
        beats=3 if words & {"waltz", "minuet"} else 4,
        seconds=seconds,
        liveliness=liveliness,
        texture=texture,
        instruments=(*named, *(others[place] for place in rng.permutation(len(others))), *spare)[:2],
        drums=not without & {"drums", "drum", "percussion", "beat", "beats"},
    )


def _plain(prompt: str) -> str:
    for sign, plain in (("lo-fi", "lofi"), ("-", " "), ("\u266f", "#"), ("\u266d", "b")):
        prompt = prompt.lower().replace(sign, plain)
    return prompt


def _wanted(request: Request) -> str:
    return "a voice" if request.modality == "audio" else repr(request.modality)


def _key(text: str, mode: Mode, rng: np.random.Generator) -> tuple[int, Mode]:
    """The key that a text names, or one drawn."""
    found = re.search(r"\b([a-g])(#| sharp| flat|b)? (major|minor)\b", text)
    if not found:
        said: Mode = "minor" if "minor" in text.split() else "major" if "major" in text.split() else mode
        return int(rng.integers(12)), said
    accidental = {"#": 1, " sharp": 1, " flat": -1, "b": -1}.get(found[2] or "", 0)
    return (_TONICS[found[1]] + accidental) % 12, "minor" if found[3] == "minor" else "major"
