"""How feedback is written down in the wild: one small file per family, and the one list of all of them.

The order matters: a format that asks for more fields comes before one that would be content with fewer.
"""

from penchant.errors import UnknownNameError, nearest
from penchant.feedback.formats import (
    alpaca_eval,
    answers,
    battles,
    choices,
    conversations,
    edits,
    graded,
    interactions,
    native,
    pairs,
    people,
    pictures,
    rankings,
    reversals,
    scores,
    segments,
    ultrafeedback,
    unpaired,
)
from penchant.feedback.formats.layout import Fields, Format, Given, Items, ItemsFile, Look, Made, RowError

__all__ = ["FORMATS", "Fields", "Format", "Given", "Items", "ItemsFile", "Look", "Made", "RowError", "named"]

FORMATS: tuple[Format, ...] = (
    native.NATIVE,
    ultrafeedback.ULTRAFEEDBACK,
    answers.FINE_GRAINED,
    answers.TOOLS,
    people.PRISM_CONVERSATIONS,
    people.PRISM_TURNS,
    people.PRISM_SURVEY,
    people.DICES,
    alpaca_eval.ANNOTATIONS,
    alpaca_eval.PREFERENCES,
    reversals.REVERSALS,
    battles.VERDICTS,
    graded.FLAGS,
    battles.BATTLES,
    battles.RANKED_SYSTEMS,
    battles.COUNTS,
    battles.RESULTS,
    battles.SIDES,
    pictures.PICTURES,
    segments.SEGMENT_PAIRS,
    segments.SEGMENT_STARTS,
    segments.SEGMENTS,
    choices.PANEL,
    choices.INDEXED,
    choices.CHOICES,
    graded.GRADED,
    graded.SUMMARIES,
    pairs.TRANSCRIPTS,
    pairs.PAIRS,
    rankings.RANK_COLUMNS,
    rankings.RANKINGS,
    unpaired.STEPWISE,
    unpaired.UNPAIRED,
    scores.HISTOGRAM,
    scores.OPINIONS,
    scores.ASPECTS,
    scores.RATED,
    scores.REVIEWS,
    edits.DECISIONS,
    edits.CHAINS,
    edits.CORRECTIONS,
    edits.EDITS,
    conversations.CONVERSATIONS,
    interactions.INTERACTIONS,
)


def named(name: str) -> Format:
    """A format by its name.

    Raises:
        UnknownNameError: there is none; the nearest names are given.
    """
    for each in FORMATS:
        if each.name == name:
            return each
    names = [each.name for each in FORMATS]
    raise UnknownNameError(
        f"There is no format {name!r}: {nearest(name, names)} `auto` recognises any of {len(names)}."
    )
