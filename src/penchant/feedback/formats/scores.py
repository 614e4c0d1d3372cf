"""Scores of one response: several aspects per row, votes as a histogram, mean opinions of pictures, stars with reviews.

A histogram or a mean has lost who said what: the record holds the mean, its aspect says so, and the whole histogram or
spread stays in `extra`.
"""

import re
from typing import Any

from penchant.feedback.formats.layout import Fields, Format, Given, Look, Made, RowError, as_number, is_missing

_ASPECTS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity", "harmlessness", "honesty", "safety")
_RESPONSES = ("response", "completion", "answer", "output")
_PROMPTS = ("prompt", "question", "instruction", "query")
_VOTES = re.compile(r"(votes|rating|score)_(\d+)")
_MEAN = re.compile(r"mos_(\w+)")


def _named(fields: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in fields), None)


def _convert_aspects(fields: Fields, given: Given) -> list[Made]:
    """HelpSteer (Wang et al. 2023) and alike: a score from 0 to 4 under each aspect."""
    prompt, response = _named(fields.row, _PROMPTS), _named(fields.row, _RESPONSES)
    if prompt is None or response is None:
        raise RowError("there is no prompt or no response")
    columns = {"prompt": fields.text(prompt), "response": fields.text(response)}
    who = {"user": fields.user(), "time": fields.time()}
    scores = {name: fields.number(name) for name in _ASPECTS if not is_missing(fields.row.get(name))}
    if not scores:
        raise RowError("there is no score")
    extra = fields.extra()
    return [
        ("rating", {**columns, "aspect": aspect, "score": score, **who, "extra": extra})
        for aspect, score in scores.items()
    ]


def _recognise_aspects(look: Look) -> str | None:
    prompt, response = _named(look.fields, _PROMPTS), _named(look.fields, _RESPONSES)
    aspects = [name for name in _ASPECTS if name in look.fields]
    if prompt and response and len(aspects) >= 2:
        return f"it scores `{response}` to `{prompt}` under {len(aspects)} aspects, such as `{aspects[0]}`"
    return None


def _convert_rated(fields: Fields, given: Given) -> list[Made]:
    """One prompt, one response, one score."""
    prompt, response = _named(fields.row, _PROMPTS), _named(fields.row, _RESPONSES)
    name = fields.find("rating", "score", "stars")
    if prompt is None or response is None or name is None:
        raise RowError("there is no prompt, no response or no score")
    made = {"prompt": fields.text(prompt), "response": fields.text(response), "score": fields.number(name)}
    made["aspect"] = fields.optional("aspect") if isinstance(fields.row.get("aspect"), str) else None
    return [("rating", {**made, "user": fields.user(), "time": fields.time(), "extra": fields.extra()})]


def _recognise_rated(look: Look) -> str | None:
    prompt, response = _named(look.fields, _PROMPTS), _named(look.fields, _RESPONSES)
    name = look.find("rating", "score", "stars")
    return f"it has `{prompt}`, `{response}` and a `{name}`" if prompt and response and name else None


def _convert_histogram(fields: Fields, given: Given) -> list[Made]:
    names = {int(match[2]): name for name in fields.row if (match := _VOTES.fullmatch(name))}
    item = fields.find("imageid", "id", "image", "item", "itemid", "name")
    if item is None or len(names) < 2:
        raise RowError("there is no item or no histogram of votes")
    votes = {value: fields.number(name) for value, name in sorted(names.items())}
    total = sum(votes.values())
    if min(votes.values()) < 0 or total <= 0:
        raise RowError("the votes are negative or none at all")
    made = {
        "prompt": "",
        "response": fields.word(item),
        "score": sum(value * count for value, count in votes.items()) / total,
        "low": float(min(votes)),
        "high": float(max(votes)),
        "aspect": "mean of votes",
    }
    return [("rating", {**made, "extra": fields.extra(votes=list(votes.values()))})]


def _recognise_histogram(look: Look) -> str | None:
    values = [int(match[2]) for name in look.fields if (match := _VOTES.fullmatch(name))]
    if len(values) >= 3 and look.find("imageid", "id", "image", "item", "itemid", "name"):
        return f"it counts the votes from {min(values)} to {max(values)} of each item; a record holds their mean"
    return None


def _convert_opinions(fields: Fields, given: Given) -> list[Made]:
    """Mean opinion scores of a picture under each aspect, 0 to 5 (AGIQA-3K; Li et al. 2023)."""
    payload = {"prompt": fields.text("prompt"), "response": fields.word("name")}
    names = {name: match[1] for name in fields.row if (match := _MEAN.fullmatch(name))}
    scores = {aspect: fields.number(name) for name, aspect in names.items()}
    if not scores or not all(0 <= score <= 5 for score in scores.values()):
        raise RowError("a mean opinion score is outside [0, 5]")
    extra = fields.extra()
    return [
        ("rating", {**payload, "aspect": f"mean {aspect}", "score": score, "low": 0.0, "high": 5.0, "extra": extra})
        for aspect, score in scores.items()
    ]


def _recognise_opinions(look: Look) -> str | None:
    names = sorted(name for name in look.fields if _MEAN.fullmatch(name))
    if names and look.has("name", "prompt"):
        return f"it has mean opinion scores (`{names[0]}`) of the picture `name` to a `prompt`"
    return None


def _convert_reviews(fields: Fields, given: Given) -> list[Made]:
    """The stars of each review of one product; the review says why."""
    item, reviews, stars = fields.word("item"), fields.texts("reviews"), fields.items("ratings")
    if len(reviews) != len(stars):
        raise RowError("`reviews` and `ratings` differ in length")
    about = fields.optional("category") or fields.optional("domain") or ""
    extra = fields.extra()
    made: list[Made] = [
        (
            "rating",
            {
                "prompt": about,
                "response": item,
                "score": as_number(score, "ratings"),
                "low": 1.0,
                "high": 5.0,
                "rationale": review,
                "extra": extra if i == 0 else None,  # once per product: it holds all its summaries
            },
        )
        for i, (review, score) in enumerate(zip(reviews, stars, strict=True))
        if not is_missing(score)
    ]
    if not made:
        raise RowError("no review has stars")
    return made


def _recognise_reviews(look: Look) -> str | None:
    if look.has("item", "reviews", "gold_summaries") or look.has("item", "reviews", "ratings"):
        return "it has the `reviews` of each `item` and, for some, their stars in `ratings`"
    return None


ASPECTS = Format(
    "aspects",
    "scores under several aspects",
    ("prompt", "response", *_ASPECTS[:3]),
    _recognise_aspects,
    _convert_aspects,
)
RATED = Format(
    "rated", "one response and its score", ("prompt", "response", "rating"), _recognise_rated, _convert_rated
)
HISTOGRAM = Format(
    "vote_histogram", "votes per score", ("image_id", "votes_1", "votes_2"), _recognise_histogram, _convert_histogram
)
OPINIONS = Format(
    "mean_opinions",
    "mean opinions of pictures",
    ("name", "prompt", "mos_quality"),
    _recognise_opinions,
    _convert_opinions,
)
REVIEWS = Format("reviews", "reviews with stars", ("item", "reviews", "ratings"), _recognise_reviews, _convert_reviews)
