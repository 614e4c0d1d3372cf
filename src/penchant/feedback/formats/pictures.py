"""Choices between two pictures to one caption (Pick-a-Pic; Kirstain et al. 2023); payloads are paths or addresses."""

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError
from penchant.feedback.formats.outcomes import likely

_PAIRS = (
    ("image_0_uid", "image_1_uid"),
    ("image_0_url", "image_1_url"),
    ("image_0", "image_1"),
    ("image_a", "image_b"),
    ("image_1", "image_2"),
)


def _pair(names: object) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if all(name in names for name in pair)), None)  # type: ignore[operator]


def _convert(fields: Fields, given: Given) -> list[Made]:
    pair = _pair(fields.row)
    if pair is None:
        raise RowError("there are no two pictures")
    if fields.get("has_label") in (False, "False", "false"):
        raise RowError("nobody chose between the pictures")
    first, second = fields.number("label_0"), fields.number("label_1")
    if first < 0 or second < 0 or first + second <= 0:
        raise RowError("the labels of the two pictures say nothing")
    pictures = [fields.word(name) for name in pair]
    chosen, rejected, strength = likely(pictures[0], pictures[1], second / (first + second))
    caption = "caption" if "caption" in fields else "prompt"
    made = {"prompt": fields.text(caption), "chosen": chosen, "rejected": rejected, "strength": strength}
    return [("comparison", {**made, "user": fields.user(), "time": fields.time(), "extra": fields.extra()})]


def _recognise(look: Look) -> str | None:
    pair = _pair(look.fields)
    if pair and look.has("label_0", "label_1") and (look.has("caption") or look.has("prompt")):
        return f"it has the pictures `{pair[0]}` and `{pair[1]}` and a label of each"
    return None


PICTURES = Format(
    "pictures",
    "choices between two pictures",
    ("caption", "image_0_uid", "image_1_uid", "label_0"),
    _recognise,
    _convert,
)
