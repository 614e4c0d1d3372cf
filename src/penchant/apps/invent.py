"""`penchant batch personas`: invented people, a row each, who choose between answers to some questions."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from penchant.apps.learn import encoder_of
from penchant.chat.names import chat_model
from penchant.errors import DataError, SettingsError
from penchant.exchange import with_kind
from penchant.feedback.chunk import shown
from penchant.feedback.personas import Persona, Personas, Report, invented_one
from penchant.parts import Numbers, Work
from penchant.records import Comparisons


@dataclass(frozen=True)
class Invent:
    """Choices of invented people: a row says what one is like (`trait`), or who it is (`description`).

    Attributes:
        questions: a text file, a question a line; everybody is asked all of them.
        writers: chat models that answer them in turn, with commas between; several make answers more varied. The first
            also invents people.
        judge: chat model that chooses for them; one that is small chooses at random.
        encoder: by whose vectors answers are alike.
        n_views: points of view on a question, and answers to it.
        max_similarity: most that the answers to a question may be alike, mean cosine.
        recheck: share of a person's choices that are asked again.
        min_consistency: share of them that must come out the same; a person below is left out, and counted.
        n_threads: people worked on at once, for models behind a URL.
        seed: same seed, same people.
    """

    questions: Path = Path("questions.txt")
    writers: str = "small-chat"
    judge: str = "small-chat"
    encoder: str = "minilm"
    n_views: int = 4
    max_similarity: float = 0.8
    recheck: float = 0.2
    min_consistency: float = 0.8
    n_threads: int = 1
    seed: int = 0

    def ready(self) -> Work:
        """Answer all questions; then rows with a `trait` or a `description` become comparisons of that person."""
        writers = [chat_model(name.strip()) for name in self.writers.split(",")]
        made = Personas(
            writers,
            chat_model(self.judge),
            encoder=encoder_of(self.encoder),
            n_views=self.n_views,
            max_similarity=self.max_similarity,
            recheck=self.recheck,
            min_consistency=self.min_consistency,
            n_threads=self.n_threads,
            seed=self.seed,
        )
        answers = made.answered(self._asked())

        def person(row: dict[str, str | None], number: int) -> Persona:
            if row.get("description"):
                return Persona(str(row.get("user") or f"persona-{number:07d}"), str(row["description"]))
            if not row.get("trait"):
                raise DataError(
                    f"Row {number} has neither a `trait` nor a `description`, but {sorted(row)}: say in a few words "
                    "what the person is like, or who it is."
                )
            return invented_one(writers[0], str(row["trait"]), number, seed=self.seed)

        def work(rows: pa.Table, numbers: Numbers) -> tuple[pa.Table, dict[str, int]]:
            made.report = Report()
            people = (person(row, number) for row, number in zip(rows.to_pylist(), numbers.tolist(), strict=True))
            parts = [one.comparisons for one in made.choices(people, answers)]
            report = made.report
            told = {
                "people": report.n_people,
                "choices that a coin decided": report.n_settled,
                "choices of the longer answer": report.n_longer,
                **{f"{reason}, left out": n for reason, n in report.left_out.items()},
            }
            found = Comparisons.concat(parts) if parts else Comparisons(Comparisons.schema.empty_table())
            return with_kind(found), {what: n for what, n in told.items() if n}

        return work

    def _asked(self) -> list[str]:
        try:
            lines = self.questions.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"--personas.questions {str(self.questions)!r} cannot be read ({error}); it is a text file with a "
                "question a line."
            ) from error
        asked = [line.strip() for line in lines if line.strip()]
        if not asked:
            raise SettingsError(f"{shown(self.questions)} holds no questions; write one a line.")
        return asked
