"""Two music systems that compose by rule and play what they wrote, so that an arena of music runs on any machine.

`chorale` writes four voices by a grammar of harmony and the rules of voice leading; `groove` lays a Markov melody over
Euclidean rhythms and drums. Neither was trained on anything, and neither sings. The words of a prompt choose key, mode,
tempo, metre and instruments; the same request and seed give the same bytes.

They need `pip install 'penchant[arena,music]'` and then `pip install --no-deps tinysoundfont`. Both take part in
`penchant arena` unless other systems are named, as `apps/arena/systems.yaml` says. Any system behind HTTP takes part
alike: `python -m penchant.apps.arena.music --system groove --port 8100` serves one, which the registry then knows by

```yaml
  groove:
    kind: http
    modality: audio
    url: http://127.0.0.1:8100/generate
    health: http://127.0.0.1:8100/health
```
"""

from penchant.apps.arena.disguise import RATE
from penchant.apps.arena.music import composers, sound
from penchant.apps.arena.music.brief import brief, generator
from penchant.apps.arena.systems import Artefact, Request


def chorale(request: Request, *, soundfont: str | None = None) -> Artefact:
    """Four voices in a key, with cadences.

    Args:
        request: for music without a voice.
        soundfont: another file to play it with, .sf2 or .sf3.

    Raises:
        DataError: the request asks for a voice, another modality or an impossible length or tempo.
        MissingExtraError: no synthesiser or soundfont is installed.
    """
    rng = generator(request, "chorale")
    return _sounding(composers.chorale(brief(request, rng), rng), soundfont)


def groove(request: Request, *, soundfont: str | None = None) -> Artefact:
    """A melody over a loop of chords, bass and drums; arguments and errors as of `chorale`."""
    rng = generator(request, "groove")
    return _sounding(composers.groove(brief(request, rng), rng), soundfont)


def _sounding(score: composers.Score, soundfont: str | None) -> Artefact:
    samples = sound.played(score, font=soundfont)
    return Artefact("audio/wav", sound.wav(samples), seconds=len(samples) / RATE)
