"""AlpacaEval annotations: how likely a judge prefers the second of two models, 1 (never) to 2 (always).

Li et al. 2023. With both texts a row is a comparison whose strength is that probability; with lengths only it is a
battle between the baseline and a model, and the exact preference stays in `extra`.
"""

from penchant.feedback.formats.layout import Fields, Format, Given, ItemsFile, Look, Made, RowError
from penchant.feedback.formats.outcomes import likely

_JUDGED = ("instruction", "output_1", "output_2", "preference")
_SCORED = ("instruction_index", "model", "preference")


def _preference(fields: Fields) -> float:
    preference = fields.number("preference")
    # Old annotation files write 0 for a tie.
    preference = 1.5 if preference == 0 else preference
    if not 1 <= preference <= 2:
        raise RowError("`preference` is outside [1, 2]")
    return preference


def _convert(fields: Fields, given: Given) -> list[Made]:
    preference = _preference(fields)
    chosen, rejected, strength = likely(fields.text("output_1"), fields.text("output_2"), preference - 1)
    made = {
        "prompt": fields.text("instruction"),
        "chosen": chosen,
        "rejected": rejected,
        "strength": strength,
        "user": fields.user(),
        "time": fields.time(),
    }
    return [("comparison", {**made, "extra": fields.extra(preference=preference)})]


def _convert_scores(fields: Fields, given: Given) -> list[Made]:
    preference = _preference(fields)
    index = fields.word("instruction_index")
    made = {
        "system_a": "baseline",
        "system_b": fields.word("model"),
        "outcome": "a" if preference < 1.5 else "b" if preference > 1.5 else "tie",
        "prompt": given.items.text(index) if given.items else None,
        "user": fields.user(),
    }
    return [("battle", {**made, "extra": fields.extra(preference=preference, instruction_index=index)})]


def _recognise(look: Look) -> str | None:
    if look.has(*_JUDGED) and look.has("generator_1", "generator_2"):
        return "it has AlpacaEval's two outputs, generators and `preference`"
    return None


def _recognise_scores(look: Look) -> str | None:
    if look.has(*_SCORED):
        return "it has `instruction_index`, `model` and a `preference` against the baseline"
    return None


ANNOTATIONS = Format("alpaca_eval", "AlpacaEval annotations", _JUDGED, _recognise, _convert)
PREFERENCES = Format(
    "alpaca_eval_scores",
    "AlpacaEval preferences without texts",
    _SCORED,
    _recognise_scores,
    _convert_scores,
    items=ItemsFile(("instructions",), ("instructionindex",)),
)
