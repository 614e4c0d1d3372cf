import io
import wave

import pytest
from arena_systems import square, tone

from penchant.apps.arena.disguise import _sound, alike, loudness
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
