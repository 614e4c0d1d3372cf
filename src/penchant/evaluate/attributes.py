r"""Twelve wishes about the form of an answer that a rule can check, each on five levels.

A grader that is a model errs; these do not, so that what is left to err is the model under test. An attribute is a
count or a rate in the text; four thresholds cut it into levels 1..5, and a value of the attribute asks for one of them.
The grade is 5 on that level and falls evenly to 1 on the level farthest from it.

>>> grade("length", "short", "It is 12."), grade("length", "long", "It is 12.")
(5, 1)
>>> asked_about("Do you want bullet points, or rather a metaphor?")
['bullets', 'analogy']
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from penchant.errors import UnknownNameError, nearest
from penchant.style import per_hundred, words_of

_BULLET = re.compile(r"^\s*[-*•]\s+\S", re.MULTILINE)
_STEP = re.compile(r"^\s*(?:step\s+)?\d+[.):]\s+\S|\b(?:first|second|third|then|next|finally),", re.MULTILINE | re.I)
_ANALOGY = re.compile(r"\b(?:like an?|as if|imagine|think of (?:it|this|them) as|similar to an?|just as)\b", re.I)
_FORMULA = re.compile(r"[\w)]\s*[+*/=^-]\s*[\w(]+\s*=|=\s*-?\$?\d")
_EXAMPLE = re.compile(r"\b(?:for example|for instance|e\.g\.|such as)", re.I)
_HEADING = re.compile(r"^\s*(?:#{1,6}\s+\S.*|\*\*[^*\n]+\*\*:?\s*)$", re.MULTILINE)
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_HEDGES = frozenset({"maybe", "perhaps", "might", "may", "could", "probably", "possibly", "likely", "seems"})
_YOU = frozenset({"you", "your", "yours", "you're", "you'll"})
_LONG_WORD = 10  # letters from which on a word counts as jargon


@dataclass(frozen=True)
class Attribute:
    """A property of an answer.

    Attributes:
        about: what it is, in words.
        measure: text -> count or rate.
        thresholds: least number of level 2, 3, 4 and 5.
        values: what a person may want -> the level wanted, 1..5.
        wishes: the same, as the person would say it.
        keywords: pattern of the words in which one asks about it.
    """

    about: str
    measure: Callable[[str], float]
    thresholds: tuple[float, float, float, float]
    values: Mapping[str, int]
    wishes: Mapping[str, str]
    keywords: str

    def level(self, text: str) -> int:
        """Level of a text, 1..5."""
        found = self.measure(text)
        return 1 + sum(found >= threshold for threshold in self.thresholds)

    def levels(self, value: str) -> tuple[str, ...]:
        """What the grades 1..5 of a value mean, for a grader that reads."""
        said = ("the opposite of", "mostly against", "half of", "nearly", "entirely")
        return tuple(f"{how} the wish: {self.wishes[value]}" for how in said)


def _rate(words: frozenset[str]) -> Callable[[str], float]:
    def measure(text: str) -> float:
        found = words_of(text)
        return per_hundred(sum(word in words for word in found), len(found))

    return measure


def _jargon(text: str) -> float:
    found = words_of(text)
    return per_hundred(sum(len(word) >= _LONG_WORD for word in found), len(found))


def _count(pattern: re.Pattern[str]) -> Callable[[str], float]:
    return lambda text: float(len(pattern.findall(text)))


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType(
    {
        "length": Attribute(
            "how long the answer is",
            lambda text: float(len(text.split())),
            (12, 25, 50, 90),
            {"short": 1, "medium": 3, "long": 5},
            {
                "short": "Keep it very short, one brief sentence.",
                "medium": "I like a medium length, a few sentences.",
                "long": "Please write a long, thorough answer.",
            },
            r"\b(?:long|length|short|brief|concise|detail\w*|thorough)\b",
        ),
        "bullets": Attribute(
            "whether it is a bulleted list",
            _count(_BULLET),
            (1, 2, 3, 4),
            {"list": 5, "prose": 1},
            {"list": "Use bullet points.", "prose": "Write prose, no bullet points."},
            r"\b(?:bullet\w*|lists?|prose|paragraphs?)\b",
        ),
        "steps": Attribute(
            "whether it works through steps",
            _count(_STEP),
            (1, 2, 3, 4),
            {"steps": 5, "result": 1},
            {"steps": "Show every step, numbered.", "result": "Give the result only, no steps."},
            r"\b(?:steps?|step-by-step|work\w* (?:out|through)|walk)\b",
        ),
        "analogy": Attribute(
            "whether it explains by an analogy",
            _count(_ANALOGY),
            (1, 1, 1, 2),
            {"analogy": 5, "literal": 1},
            {"analogy": "Explain it with an analogy.", "literal": "No analogies, be literal."},
            r"\b(?:analog\w*|metaphors?|comparisons?|imagery|stor(?:y|ies))\b",
        ),
        "jargon": Attribute(
            "how technical its words are",
            _jargon,
            (2, 5, 8, 12),
            {"technical": 5, "plain": 1},
            {"technical": "Use technical terms.", "plain": "Use plain, everyday words."},
            r"\b(?:jargon|technical\w*|terminology|terms|vocabulary|expert\w*|simple|plain|simpl\w+)\b",
        ),
        "second_person": Attribute(
            "whether it speaks to the reader",
            _rate(_YOU),
            (0.5, 2, 4, 6),
            {"you": 5, "impersonal": 1},
            {"you": "Speak to me directly as you.", "impersonal": "Stay impersonal, never say you."},
            r"\b(?:address\w*|second person|speaks? to|say you|personal\w*|impersonal)\b",
        ),
        "formulae": Attribute(
            "whether it writes formulae",
            _count(_FORMULA),
            (1, 2, 3, 4),
            {"formulae": 5, "words": 1},
            {"formulae": "Write equations.", "words": "Say it in words, no equations."},
            r"\b(?:formula\w*|equations?|notation|symbols?|mathematical)\b",
        ),
        "examples": Attribute(
            "how many examples it gives",
            _count(_EXAMPLE),
            (1, 1, 2, 3),
            {"examples": 5, "none": 1},
            {"examples": "Give several examples.", "none": "No examples, please."},
            r"\b(?:examples?|instances?|illustrat\w+)\b",
        ),
        "hedging": Attribute(
            "how sure it sounds",
            _rate(_HEDGES),
            (0.5, 2, 4, 6),
            {"careful": 5, "firm": 1},
            {"careful": "Word it carefully (may, might).", "firm": "Be firm, without maybe or might."},
            r"\b(?:hedg\w+|certain\w*|confiden\w+|sure|cautious\w*|careful\w*|uncertain\w*|firm\w*)\b",
        ),
        "headings": Attribute(
            "whether it has headings",
            _count(_HEADING),
            (1, 1, 2, 2),
            {"headings": 5, "plain": 1},
            {"headings": "Put headings above the parts.", "plain": "No headings."},
            r"\b(?:headings?|headers?|titles?|sections?|structure\w*)\b",
        ),
        "emoji": Attribute(
            "whether it uses emoji",
            _count(_EMOJI),
            (1, 1, 2, 3),
            {"emoji": 5, "none": 1},
            {"emoji": "Use a few emoji.", "none": "No emoji."},
            r"\b(?:emojis?|emoticons?|smil\w+|icons?)\b",
        ),
        "question": Attribute(
            "whether it ends with a question to the reader",
            lambda text: float(text.rstrip().endswith("?")),
            (1, 1, 1, 1),
            {"question": 5, "statement": 1},
            {"question": "End with a question to me.", "statement": "Do not end with a question."},
            r"\b(?:follow-?up|question at the end|ends? with|closing question|ask you back|quiz\w*)\b",
        ),
    }
)


def attribute(name: str) -> Attribute:
    """An attribute by name.

    Raises:
        UnknownNameError: there is no rule of that name; a grader that reads is needed.
    """
    if name not in ATTRIBUTES:
        raise UnknownNameError(
            f"No rule checks the preference {name!r}: {nearest(name, ATTRIBUTES)} Give a chat model as --grader."
        )
    return ATTRIBUTES[name]


def grade(name: str, value: str, text: str) -> int:
    """How well a text fulfils a wish, 1..5.

    Args:
        name: of the attribute.
        value: that the person wants.
        text: the answer.

    Raises:
        UnknownNameError: no such attribute, or it has no such value.
    """
    one = attribute(name)
    if value not in one.values:
        raise UnknownNameError(f"The preference {name!r} has no value {value!r}: {nearest(value, one.values)}")
    wanted = one.values[value]
    farthest = max(wanted - 1, 5 - wanted)
    return round(5 - 4 * abs(one.level(text) - wanted) / farthest)


def asked_about(question: str) -> list[str]:
    """Attributes that a question names, in the order of the table."""
    return [name for name, one in ATTRIBUTES.items() if re.search(one.keywords, question, re.IGNORECASE)]
