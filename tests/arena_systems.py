"""Two tiny systems of each kind, for tests of the arena: tones, echoes, squares of a colour."""

import io
import threading
import wave

import numpy as np

from penchant.apps.arena.systems import Artefact, Request


def tone(request: Request, *, pitch: float = 440.0, rate: int = 22_050, seconds: float = 4.0, level: float = 0.5):
    """A sine as a mono WAV file."""
    time = np.arange(int(rate * seconds)) / rate
    samples = np.round(32767 * level * np.sin(2 * np.pi * pitch * time)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return Artefact("audio/wav", file.getvalue(), seconds)


def echo(request: Request, *, loud: bool = False):
    """The prompt again."""
    return Artefact("text/plain", (request.prompt.upper() if loud else f"You said: {request.prompt}").encode())


def square(request: Request, *, red: int = 200, size: int = 32):
    """A picture of one colour."""
    from PIL import Image, PngImagePlugin

    about = PngImagePlugin.PngInfo()
    about.add_text("Software", "the secret painter")
    file = io.BytesIO()
    Image.new("RGB", (size, size), (red, 20, 40)).save(file, "PNG", pnginfo=about)
    return Artefact("image/png", file.getvalue())


def broken(request: Request):
    """Never answers."""
    raise RuntimeError("out of memory on host secret-painter-7")


def never(request: Request) -> Artefact:
    """A system that hangs for ever."""
    threading.Event().wait()
    raise AssertionError(request)
