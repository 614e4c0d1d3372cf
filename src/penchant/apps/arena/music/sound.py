"""A score as sound: a packaged synthesiser and soundfont in, a WAV file of exact length and fixed loudness out.

TinySoundFont plays General MIDI from the soundfont TimGM6mb (Tim Brechbill, GPL-2), which arrives with the package
pretty_midi; nothing of it is kept here.
"""

import importlib.util
import io
import os
import wave
from pathlib import Path

import numpy as np
from scipy import ndimage

from penchant.apps.arena.disguise import RATE, Samples, loudness
from penchant.apps.arena.music.composers import DRUMS, Score
from penchant.errors import MissingExtraError, SettingsError

LOUDNESS = -20.0  # LUFS, ITU-R BS.1770-4, over the whole clip: low enough that few peaks need taming
INSTALL = "pip install 'penchant[music]' and then pip install --no-deps tinysoundfont"  # its own needs a sound card
_PEAK = 10 ** (-1.5 / 20)  # of full scale
_FADE = 0.3  # seconds at the end
_DRUM_CHANNEL = 9


def soundfont() -> Path:
    """The soundfont that a package brought.

    Raises:
        MissingExtraError: it is not installed.
    """
    found = importlib.util.find_spec("pretty_midi")
    path = Path(found.origin or "").with_name("TimGM6mb.sf2") if found else None
    if path is None or not path.exists():
        raise MissingExtraError(f"Music needs a soundfont: {INSTALL}.")
    return path


def played(score: Score, *, font: str | os.PathLike[str] | None = None) -> Samples:
    """Samples at 48 kHz, [time, 2], exactly as long as the score says and as loud as `LOUDNESS`.

    Args:
        score: what is played.
        font: another soundfont, .sf2 or .sf3.

    Raises:
        MissingExtraError: the synthesiser or the soundfont is not installed.
        SettingsError: the soundfont cannot be read.
    """
    try:
        import tinysoundfont
    except ImportError as error:
        raise MissingExtraError(f"Music needs a synthesiser: {INSTALL}.") from error
    path = soundfont() if font is None else Path(font)
    synth = tinysoundfont.Synth(gain=-12, samplerate=RATE)  # many notes at once must not clip
    try:
        loaded = synth.sfload(str(path))
    except Exception as error:
        raise SettingsError(f"The soundfont {path.name!r} cannot be read: {error}.") from error
    channels = []
    for part, program in enumerate(score.parts):
        channels.append(_DRUM_CHANNEL if program == DRUMS else part)
        if program == DRUMS:
            synth.program_select(_DRUM_CHANNEL, loaded, 128, 0, True)
        else:
            synth.program_select(part, loaded, 0, program)
    per_beat = RATE * 60 / score.bpm
    frames = round(score.seconds * RATE)
    events = []
    for note in score.notes:
        start, end = round(note.start * per_beat), round((note.start + note.length) * per_beat)
        # At one sample notes end before others begin, lest a repeated note be cut off.
        events += [
            (start, 1, channels[note.part], note.pitch, note.velocity),
            (end, 0, channels[note.part], note.pitch, 0),
        ]
    pieces, now = [], 0
    for time, is_start, channel, pitch, velocity in [*sorted(events), (frames, 0, 0, 0, 0)]:
        time = min(time, frames)
        if time > now:
            pieces.append(np.frombuffer(synth.generate(time - now), dtype=np.float32).copy())
            now = time
        if is_start and time < frames:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    return _levelled(np.concatenate(pieces).reshape(-1, 2).astype(np.float64))


def _levelled(samples: Samples) -> Samples:
    """Faded out at the end and brought to `LOUDNESS`, the peaks turned down for some milliseconds where need be."""
    fade = min(round(_FADE * RATE), len(samples))
    samples = samples.copy()
    samples[len(samples) - fade :] *= np.linspace(1, 0, fade)[:, None]
    width = round(0.005 * RATE)
    for _ in range(4):  # what is turned down is made up for; the peaks left over shrink each time
        samples *= 10 ** ((LOUDNESS - loudness(samples)) / 20)
        gain = np.minimum(1, _PEAK / np.maximum(np.abs(samples).max(axis=1), 1e-9))
        # The mean over a window of minima over it is never above what the sample itself needs.
        gain = ndimage.uniform_filter1d(ndimage.minimum_filter1d(gain, width), width)
        samples *= gain[:, None]
    return samples


def wav(samples: Samples) -> bytes:
    """A WAV file of 16 bits that holds sound and no tags."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()
