"""Two artefacts made alike: equally loud, equally large, without a word on who made them."""

import io
import wave

import numpy as np
import pytest
from arena_systems import square, tone
from PIL import Image

from penchant.apps.arena.disguise import RATE, _sound, alike, loudness
from penchant.apps.arena.systems import Artefact, GenerationError, Request


def test_clips_become_equally_loud_equally_long_and_of_one_form():
    request = Request("x", "audio")
    quiet, loud = tone(request, level=0.05, seconds=2.0), tone(request, level=0.9, rate=44_100, seconds=3.0)
    a, b = alike(quiet, loud, "audio")
    assert len(a.data) == len(b.data)
    with wave.open(io.BytesIO(a.data)) as x, wave.open(io.BytesIO(b.data)) as y:
        assert x.getparams() == y.getparams()
    assert loudness(_sound(a)) == pytest.approx(loudness(_sound(b)), abs=0.5)
    assert (a.seconds, b.seconds) == (pytest.approx(2.0, abs=0.01), pytest.approx(3.0, abs=0.01))


def test_pictures_lose_metadata_and_differ_in_neither_size():
    request = Request("x", "image")
    a, b = alike(square(request), square(request, size=64), "image")
    assert len(a.data) == len(b.data)
    assert b"secret painter" not in a.data


@pytest.mark.parametrize("bad", [b"", b"RIFFnonsense", b"\x00" * 100])
def test_what_cannot_be_heard_is_a_failure_of_the_system(bad):
    with pytest.raises(GenerationError):
        alike(Artefact("audio/wav", bad), Artefact("audio/wav", bad), "audio")


def test_loudness_is_that_of_the_standard_and_follows_the_level():
    time = np.arange(RATE * 3) / RATE
    tone_ = 10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * time)
    both = np.stack([tone_, tone_], axis=1)
    assert loudness(both) == pytest.approx(-23.0, abs=0.1)  # EBU Tech 3341, case 1
    assert loudness(both / 2) == pytest.approx(loudness(both) - 20 * np.log10(2), abs=1e-6)
    gated = np.concatenate([both, np.zeros((RATE * 3, 2))])
    assert loudness(gated) == pytest.approx(-23.0, abs=0.3)  # silence is gated out
    assert loudness(np.zeros((RATE, 2))) == float("-inf")


def test_no_clip_is_made_so_loud_that_it_clips():
    request = Request("x", "audio")
    click = io.BytesIO()
    with wave.open(click, "wb") as out:  # quiet on the whole, with a peak at the limit
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        samples = np.round(300 * np.sin(np.arange(RATE * 2) / 20)).astype("<i2")
        samples[RATE] = 32767
        out.writeframes(samples.tobytes())
    a, b = alike(Artefact("audio/wav", click.getvalue()), tone(request, level=0.9), "audio")
    peaks = [np.abs(_sound(one)).max() for one in (a, b)]
    assert max(peaks) <= 10 ** (-1 / 20) + 1e-3
    assert loudness(_sound(a)) == pytest.approx(loudness(_sound(b)), abs=0.5)


def test_tags_of_sound_and_pictures_are_gone():
    request = Request("x", "audio")
    data = tone(request).data
    tagged = data + b"LIST\x1a\x00\x00\x00INFOISFT\x0e\x00\x00\x00secret painter"
    a, _ = alike(Artefact("audio/wav", tagged), tone(request), "audio")
    assert b"secret painter" not in a.data
    file, about = io.BytesIO(), Image.Exif()
    about[0x0131] = "secret painter"
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=about, comment=b"secret painter")
    assert b"secret painter" in file.getvalue()
    a, b = alike(Artefact("image/jpeg", file.getvalue()), square(Request("x", "image")), "image")
    assert b"secret painter" not in a.data
    assert a.media_type == b.media_type == "image/png"


def test_texts_of_any_length_are_of_one_size_and_hide_nothing():
    short, long = Artefact("text/plain", b"no"), Artefact("text/plain", ("yes " * 900).encode())
    a, b = alike(short, long, "text")
    assert len(a.data) == len(b.data)
    assert a.data.decode().rstrip() == "no"
    hidden = Artefact("text/plain", "a\u202eb\u200bc\x07d\x00".encode())
    assert alike(hidden, short, "text")[0].data.decode().rstrip() == "abcd"


@pytest.mark.parametrize(
    ("bad", "modality"),
    [
        (Artefact("text/html", b"<b>hi</b>"), "text"),
        (Artefact("text/plain", b"\xff\xfe"), "text"),
        (Artefact("text/plain", b" \n "), "text"),
        (Artefact("text/plain", b"x" * 20_001), "text"),
        (Artefact("image/svg+xml", b"<svg onload='alert(1)'/>"), "image"),
        (Artefact("image/png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50), "image"),
        (tone(Request("x", "audio"), level=0.0), "audio"),
        (tone(Request("x", "audio"), rate=4000, seconds=661.0), "audio"),
    ],
)
def test_what_cannot_be_shown_is_refused_for_every_kind(bad, modality):
    with pytest.raises(GenerationError, match="A system sent"):
        alike(bad, bad, modality)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr("penchant.apps.arena.disguise._MOST_PIXELS", 1000)
    with pytest.raises(GenerationError, match="32 x 32 pixels"):
        alike(square(Request("x", "image")), square(Request("x", "image")), "image")
