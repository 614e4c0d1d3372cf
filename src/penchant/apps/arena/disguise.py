"""Two artefacts made alike, so that nothing but what they are tells who made them before the vote.

Sound is decoded, brought to 48 kHz, two channels and 16 bits, made equally loud, followed by silence up to one length
and written anew, so that tags, formats and sizes are gone. Pictures become PNG of one size without metadata. Texts lose
invisible characters. Both files get the same number of bytes.

Source:
    ITU-R BS.1770-4 (2015), annex 1, for loudness: K-weighting, blocks of 400 ms, gates at -70 LUFS and 10 LU.
"""

import io
import unicodedata
import wave
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from penchant.apps.arena.systems import LARGEST_ARTEFACT, Artefact, GenerationError, Modality
from penchant.errors import MissingExtraError

Samples = NDArray[np.float64]

RATE = 48_000  # Hz, for which the filters below hold
LOUDNESS = -16.0  # LUFS, usual for music in a browser
_PEAK = 10 ** (-1 / 20)  # -1 dBFS: what a converter can play without clipping
LONGEST_CLIP = 660.0  # seconds
LONGEST_TEXT = 20_000  # characters
_LARGEST_SIDE = 1024  # pixels
_MOST_PIXELS = 40_000_000
_BLOCK = 4096  # bytes: texts of every length up to it look the same

# K-weighting at 48 kHz: the head as a shelf, then a high pass. (b, a) of each, from the standard's tables 1 and 2.
_SHELF = ([1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585])
_HIGH_PASS = ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621])

_AUDIO = {"audio/wav", "audio/x-wav", "audio/wave", "audio/flac", "audio/ogg", "audio/mpeg", "audio/mp3"}
_IMAGES = {"image/png", "image/jpeg", "image/webp"}


def alike(first: Artefact, second: Artefact, modality: Modality) -> tuple[Artefact, Artefact]:
    """Both artefacts as they are shown.

    Args:
        first: of A.
        second: of B.
        modality: what both must be.

    Returns:
        Artefacts of one media type and one number of bytes; `seconds` is the length of each clip before silence.

    Raises:
        GenerationError: one cannot be read, is empty, silent or too large.
    """
    made = [readable(one, modality) for one in (first, second)]
    if modality == "audio":
        packed = _equally_loud(*made)
    elif modality == "image":
        packed = _equally_large(*made)
    else:
        packed = [str(text).encode() for text in made]
    size = max(len(data) for data in packed)
    size += -size % _BLOCK
    # Readers of PNG stop at its end, players at that of the WAV data, and our page trims spaces.
    filler = b"\x00" if modality != "text" else b" "
    kind = {"text": "text/plain", "image": "image/png", "audio": "audio/wav"}[modality]
    lengths = [len(one) / RATE if modality == "audio" else None for one in made]
    a, b = (
        replace(one, media_type=kind, data=data.ljust(size, filler), seconds=seconds)
        for one, data, seconds in zip((first, second), packed, lengths, strict=True)
    )
    return a, b


def readable(artefact: Artefact, modality: Modality) -> Any:
    """A text, a picture or samples out of the bytes that a system sent.

    Raises:
        GenerationError: they cannot be read, are empty, silent or too large.
    """
    return {"text": _text, "image": _picture, "audio": _sound}[modality](artefact)


def _checked(artefact: Artefact, kinds: set[str]) -> bytes:
    if artefact.media_type not in kinds:
        raise GenerationError(f"A system sent {artefact.media_type!r}; known are {', '.join(sorted(kinds))}.")
    if not 0 < len(artefact.data) <= LARGEST_ARTEFACT:
        raise GenerationError(f"A system sent {len(artefact.data):,} bytes; 1 to {LARGEST_ARTEFACT:,} can be shown.")
    return artefact.data


def _text(artefact: Artefact) -> str:
    try:
        text = _checked(artefact, {"text/plain"}).decode()
    except UnicodeDecodeError as error:
        raise GenerationError(f"A system sent text that is not UTF-8: {error}.") from error
    # Control and format characters could reorder or hide what is shown.
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co")).strip()
    if not 0 < len(text) <= LONGEST_TEXT:
        raise GenerationError(f"A system sent {len(text):,} characters; 1 to {LONGEST_TEXT:,} can be shown.")
    return text


def _picture(artefact: Artefact) -> Any:
    from PIL import Image, UnidentifiedImageError

    data = _checked(artefact, _IMAGES)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                raise GenerationError(f"A system sent {opened.width} x {opened.height} pixels; that is too many.")
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise GenerationError(f"A system sent a picture that cannot be read: {error}.") from error
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    return picture


def _equally_large(*pictures: Any) -> list[bytes]:
    from PIL import Image, ImageOps

    size = (max(one.width for one in pictures), max(one.height for one in pictures))
    packed = []
    for one in pictures:
        canvas = Image.new("RGB", size, (127, 127, 127))
        fitted = ImageOps.contain(one, size)
        canvas.paste(fitted, ((size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2))
        file = io.BytesIO()
        canvas.save(file, "PNG")  # a canvas of our own: nothing of the source's metadata
        packed.append(file.getvalue())
    return packed


def _sound(artefact: Artefact) -> Samples:
    """Samples in [-1, 1] at 48 kHz, [time, 2]."""
    data = _checked(artefact, _AUDIO)
    if data[:4] == b"RIFF":
        samples, rate = _from_wave(data)
    else:
        samples, rate = _from_compressed(data)
    seconds = len(samples) / rate
    if not 0 < seconds <= LONGEST_CLIP or not np.isfinite(samples).all():
        raise GenerationError(f"A system sent {seconds:.1f} s of sound; up to {LONGEST_CLIP:g} s can be heard.")
    stereo = np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples[:, :2]
    if rate != RATE:
        shared = np.gcd(RATE, rate)
        stereo = signal.resample_poly(stereo, RATE // shared, rate // shared, axis=0)
    if not np.isfinite(loudness(stereo)):
        raise GenerationError("A system sent silence.")
    return np.asarray(stereo, dtype=np.float64)


def _from_wave(data: bytes) -> tuple[Samples, int]:
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, ValueError, RuntimeError):
        return _from_compressed(data)  # floating point and rarer forms of WAV
    if width not in (1, 2, 4) or not channels or not 4_000 <= rate <= 384_000:
        return _from_compressed(data)
    raw = raw[: len(raw) - len(raw) % (width * channels)]
    numbers = np.frombuffer(raw, {1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float64)
    scaled = (numbers - 128) / 128 if width == 1 else numbers / 2.0 ** (8 * width - 1)
    return scaled.reshape(-1, channels), rate


def _from_compressed(data: bytes) -> tuple[Samples, int]:
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtraError("This kind of sound needs soundfile: pip install 'penchant[arena]'.") from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames > LONGEST_CLIP * file.samplerate:
                raise GenerationError(f"A system sent more than {LONGEST_CLIP:g} s of sound.")
            return np.asarray(file.read(dtype="float64", always_2d=True)), int(file.samplerate)
    except (soundfile.LibsndfileError, ValueError, TypeError, RuntimeError) as error:
        raise GenerationError(f"A system sent sound that cannot be read: {error}.") from error


def loudness(samples: Samples) -> float:
    """Loudness of sound at 48 kHz over all of it, LUFS; minus infinity for silence.

    Args:
        samples: in [-1, 1], [time, channels].

    Source:
        ITU-R BS.1770-4, annex 1.

    >>> tone = np.sin(2 * np.pi * 997 * np.arange(RATE) / RATE)[:, None]
    >>> round(loudness(tone), 1)  # as the standard says of 0 dBFS in one channel
    -3.0
    """
    weighted = signal.lfilter(*_HIGH_PASS, signal.lfilter(*_SHELF, samples, axis=0), axis=0)
    block, step = int(0.4 * RATE), int(0.1 * RATE)
    if len(weighted) < block:
        weighted = np.pad(weighted, ((0, block - len(weighted)), (0, 0)))
    total = np.concatenate([[0.0], np.cumsum((weighted**2).sum(axis=1))])
    starts = np.arange(0, len(weighted) - block + 1, step)
    power = (total[starts + block] - total[starts]) / block
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    if len(power):
        power = power[power > power.mean() / 10]
    return float(-0.691 + 10 * np.log10(power.mean())) if len(power) else float("-inf")


def _equally_loud(*clips: Samples) -> list[bytes]:
    """WAV files of one loudness and one length: the usual loudness, or less where a peak would clip."""
    measured = [loudness(clip) for clip in clips]
    room = [loud + 20 * np.log10(_PEAK / np.abs(clip).max()) for loud, clip in zip(measured, clips, strict=True)]
    target = min(LOUDNESS, *room)
    frames = max(len(clip) for clip in clips)
    packed = []
    for loud, clip in zip(measured, clips, strict=True):
        scaled = clip * 10 ** ((target - loud) / 20)
        numbers = np.zeros((frames, 2), dtype="<i2")
        numbers[: len(clip)] = np.round(scaled * 32767)
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(2)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes(numbers.tobytes())
        packed.append(file.getvalue())
    return packed
