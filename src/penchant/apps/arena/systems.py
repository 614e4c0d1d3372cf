"""What takes part in an arena: a request, an artefact, and a system that makes one from the other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from penchant.errors import DataError, PenchantError

Modality = Literal["text", "image", "audio"]
MODALITIES: tuple[Modality, ...] = ("text", "image", "audio")

LARGEST_ARTEFACT = 64 << 20  # bytes


class GenerationError(PenchantError, RuntimeError):
    """A system did not answer, or with something that cannot be shown."""


@dataclass(frozen=True)
class Request:
    """What a system is asked for.

    Attributes:
        prompt: what the person wrote.
        modality: what is wanted.
        instrumental: music without a voice; only for audio.
        lyrics: to be sung; never with `instrumental`.
        duration: seconds that are wished for, if the person said so; only for audio.
        bpm: beats a minute, likewise.
        seed: for systems that draw at random; another one for each side and each try.

    Raises:
        DataError: instrumental music has lyrics, or a number makes no sense.
    """

    prompt: str
    modality: Modality = "text"
    instrumental: bool = True
    lyrics: str | None = None
    duration: float | None = None
    bpm: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.instrumental and self.lyrics:
            raise DataError("Instrumental music has no lyrics: leave the lyrics empty, or ask for a voice.")
        for name in ("duration", "bpm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 10_000:
                raise DataError(f"`{name}` must be above 0 and below 10,000: got {value!r}.")

    @property
    def wants_voice(self) -> bool:
        """Whether a system must be able to sing."""
        return self.modality == "audio" and not self.instrumental


@dataclass(frozen=True)
class Artefact:
    """What a system made.

    Attributes:
        media_type: text/plain (UTF-8), image/png, image/jpeg, image/webp, audio/wav, audio/flac, audio/ogg, audio/mpeg.
        data: the bytes.
        seconds: length of a clip; None for text and images.
        lyrics: what is sung, where the system says so.
    """

    media_type: str
    data: bytes
    seconds: float | None = None
    lyrics: str | None = None


class Generate(Protocol):
    """The one thing that a system must do; it may raise anything, which counts as a failure of the system."""

    def __call__(self, request: Request, /) -> Artefact:
        """Answer a request."""


@dataclass(frozen=True)
class Abilities:
    """What a system can do.

    Attributes:
        supports_lyrics: it can sing.
        max_duration: longest clip, seconds.
    """

    supports_lyrics: bool = False
    max_duration: float | None = None

    def can(self, request: Request) -> bool:
        """Whether a system with these abilities may be asked.

        >>> Abilities(max_duration=30).can(Request("waltz", "audio", duration=60))
        False
        """
        if request.wants_voice and not self.supports_lyrics:
            return False
        return not (self.max_duration and request.duration and request.duration > self.max_duration)


@dataclass(frozen=True)
class System:
    """One system of the arena.

    Attributes:
        name: shown after the vote and on the leaderboard.
        generate: how it answers.
        modality: what it makes.
        organisation: whose it is.
        access: proprietary systems' artefacts are never released.
        training_data: what it was trained on, in words.
        abilities: what it can do.
        healthy: a quick check before it is asked.
        timeout: seconds until an answer counts as a failure.
    """

    name: str
    generate: Generate
    modality: Modality = "text"
    organisation: str = ""
    access: Literal["open", "proprietary"] = "open"
    training_data: str = ""
    abilities: Abilities = field(default_factory=Abilities)
    healthy: Callable[[], bool] = lambda: True
    timeout: float = 120.0

    def can(self, request: Request) -> bool:
        """Whether it may be asked."""
        return self.modality == request.modality and self.abilities.can(request)

    def about(self) -> dict[str, Any]:
        """What may be told of it after the vote."""
        return {
            "system": self.name,
            "organisation": self.organisation,
            "access": self.access,
            "training_data": self.training_data,
            "supports_lyrics": self.abilities.supports_lyrics,
        }
