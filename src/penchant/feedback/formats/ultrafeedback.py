"""UltraFeedback: several completions of one instruction, each rated and criticised under several aspects.

Cui et al. 2023. Ratings of an aspect are 1 to 5 with a rationale, "N/A" where the judge gave none; the
overall score is 1 to 10 and its rationale is the critique.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from penchant.feedback.formats.layout import (
    Fields,
    Format,
    Given,
    Look,
    Made,
    RowError,
    as_number,
    json_text,
)

_TAKEN = ("response", "annotations", "critique", "overall_score")


def _convert(fields: Fields, given: Given) -> list[Made]:
    prompt = fields.text("instruction")
    completions = fields.items("completions", at_least=1)
    shared = {key: value for key, value in fields.row.items() if key not in ("instruction", "completions")}
    made: list[Made] = []
    for completion in completions:
        if not isinstance(completion, Mapping) or not isinstance(completion.get("response"), str):
            fields.skip("a completion has no response")
            continue
        rest = {key: value for key, value in completion.items() if key not in _TAKEN}
        columns = {"prompt": prompt, "response": completion["response"], "extra": json_text({**shared, **rest})}
        for rating in _ratings(completion):
            if rating["score"] is None:
                fields.skip("a rating is N/A or outside its scale")
            else:
                made.append(("rating", {**columns, **rating}))
    if not made:
        raise RowError("no completion has a rating")
    return made


def _ratings(completion: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each aspect's score, and the overall one; a score that nobody gave is None."""
    annotations = completion.get("annotations")
    for aspect, found in annotations.items() if isinstance(annotations, Mapping) else ():
        entry = found[0] if isinstance(found, list) and found else found
        if isinstance(entry, Mapping):
            # Where a rating has a rationale of its own, `Rationale` explains something else (the type of an error).
            rationale = entry.get("Rationale For Rating") or entry.get("Rationale")
            yield _rating(aspect, entry.get("Rating"), 5.0, rationale)
    if "overall_score" in completion:
        yield _rating("overall", completion["overall_score"], 10.0, completion.get("critique"))


def _rating(aspect: str, value: Any, highest: float, rationale: Any) -> dict[str, Any]:
    text = rationale if isinstance(rationale, str) else None
    return {"aspect": aspect, "score": _score(value, highest), "low": 1.0, "high": highest, "rationale": text}


def _score(value: Any, highest: float) -> float | None:
    try:
        score = as_number(value, "Rating")
    except RowError:
        return None
    return score if 1 <= score <= highest else None


def _recognise(look: Look) -> str | None:
    def is_rated(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and any(
            isinstance(each, Mapping) and "response" in each and ("annotations" in each or "overall_score" in each)
            for each in value
        )

    if look.has("instruction", "completions") and look.mostly("completions", is_rated):
        return "it has an `instruction` and `completions` with `annotations` or an `overall_score`"
    return None


ULTRAFEEDBACK = Format(
    "ultrafeedback",
    "UltraFeedback: rated and criticised completions",
    ("instruction", "completions"),
    _recognise,
    _convert,
)
