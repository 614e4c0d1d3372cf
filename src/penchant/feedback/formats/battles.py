"""Votes between two systems: MT-Bench, arenas with whole conversations, ranks of two systems, results and counts.

An arena row with both conversations is also a comparison of what the two systems said. Counts of wins become as many
battles as were won, so that every vote weighs the same.
"""

from collections.abc import Mapping
from typing import Any

from penchant.feedback.formats.layout import (
    Fields,
    Format,
    Given,
    ItemsFile,
    Look,
    Made,
    Row,
    RowError,
    as_word,
    json_text,
)
from penchant.feedback.formats.messages import is_messages, messages
from penchant.feedback.formats.outcomes import decided, is_outcome, outcome, preferred
from penchant.feedback.formats.pairs import in_messages

_WINNERS = ("winner", "human_vote", "vote", "human", "outcome", "result_label")
_SYSTEMS = (("model_a", "model_b"), ("system_a", "system_b"), ("player_a", "player_b"), ("left_model", "right_model"))
_MOST_WINS = 100_000


def _systems(row: Any) -> tuple[str, str] | None:
    return next((pair for pair in _SYSTEMS if pair[0] in row and pair[1] in row), None)


def _winner(row: Any) -> str | None:
    return next((name for name in _WINNERS if name in row), None)


def _convert(fields: Fields, given: Given) -> list[Made]:
    systems, winner = _systems(fields.row), _winner(fields.row)
    if systems is None or winner is None:
        raise RowError("there are no two systems with a winner")
    names = [fields.word(system) for system in systems]
    result = decided(fields.get(winner), winner)
    texts = _conversations(fields)
    prompt = texts[0] if texts else _prompt(fields, given)
    who = {"user": fields.user(), "time": fields.time()}
    extra = fields.extra()
    battle = {"system_a": names[0], "system_b": names[1], "outcome": result, **who, "extra": extra}
    if texts is None:
        return [("battle", {**battle, "prompt": prompt})]
    made: list[Made] = [("battle", {**battle, "prompt": prompt, "form": texts[3]})]
    if result != "both_bad" and texts[1] != texts[2]:
        chosen, rejected, strength = preferred(texts[1], texts[2], result)
        columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "form": texts[3], "strength": strength}
        systems_said = json_text({"system_a": names[0], "system_b": names[1], "outcome": result})
        made.append(("comparison", {**columns, **who, "extra": systems_said}))
    return made


def _conversations(fields: Fields) -> tuple[str, str, str, str | None] | None:
    """Prompt, first and second answer and their form, where a row carries them."""
    first, second = fields.row.get("conversation_a"), fields.row.get("conversation_b")
    if is_messages(first) and is_messages(second):
        one, other = (
            messages(fields.get("conversation_a"), "conversation_a"),
            messages(fields.get("conversation_b"), "conversation_b"),
        )
        n = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)) - 1)
        made = in_messages(one[: max(n, 1)], one[max(n, 1) :], other[max(n, 1) :])
        return made["prompt"], made["chosen"], made["rejected"], "messages"
    for names in (("answer_a", "answer_b"), ("response_a", "response_b")):
        question = next((name for name in ("question", "prompt") if isinstance(fields.row.get(name), str)), None)
        if question and all(isinstance(fields.row.get(name), str) for name in names):
            return fields.text(question), fields.text(names[0]), fields.text(names[1]), None
    return None


def _prompt(fields: Fields, given: Given) -> str | None:
    """The prompt in the row, or the turn of the question it points to."""
    for name in ("prompt", "question", "instruction"):
        if isinstance(fields.row.get(name), str):
            return fields.text(name)
    if given.items is None or fields.row.get("question_id") is None:
        return None
    row = given.items.rows.get(fields.word("question_id"), {})
    turns, turn = row.get("turns"), fields.row.get("turn")
    if isinstance(turns, list) and all(isinstance(text, str) for text in turns):
        last = turn if isinstance(turn, int) and 1 <= turn <= len(turns) else len(turns)
        return "\n\n".join(turns[:last])
    return given.items.text(fields.word("question_id"))


def _recognise(look: Look) -> str | None:
    systems, winner = _systems(look.fields), _winner(look.fields)
    if systems is None or winner is None:
        return None
    if not look.mostly(winner, is_outcome):
        return None
    texts = " and both conversations" if look.has("conversation_a", "conversation_b") else ""
    return f"it has `{systems[0]}`, `{systems[1]}` and a `{winner}`{texts}"


def _convert_sides(fields: Fields, given: Given) -> list[Made]:
    """Votes for left or right whose systems are not named."""
    result = decided(fields.row.get("human_vote"), "human_vote")
    battle = {"system_a": "left", "system_b": "right", "outcome": result, "prompt": fields.optional("prompt")}
    who = {"user": fields.user(), "time": fields.time()}
    return [("battle", {**battle, **who, "extra": fields.extra()})]


def _recognise_sides(look: Look) -> str | None:
    is_vote = look.mostly("human_vote", is_outcome)
    return "it has a `human_vote` for left or right, whose systems are not named" if is_vote else None


def _convert_ranks(fields: Fields, given: Given) -> list[Made]:
    first, second = fields.number("rank_a"), fields.number("rank_b")
    battle = {
        "system_a": fields.word("system_a"),
        "system_b": fields.word("system_b"),
        "outcome": "a" if first < second else "b" if second < first else "tie",
    }
    who = {"user": fields.user(), "time": fields.time()}
    return [("battle", {**battle, **who, "extra": fields.extra(rank_a=first, rank_b=second)})]


def _recognise_ranks(look: Look) -> str | None:
    if look.has("system_a", "system_b", "rank_a", "rank_b"):
        return "it has `system_a`, `system_b` and the rank of each (1 is best)"
    return None


_COUNTS: tuple[tuple[str, str, str, str, str | None], ...] = (
    ("journal1", "journal2", "win1", "win2", None),
    ("home.team", "away.team", "home.wins", "away.wins", None),
    ("i", "j", "w_ij", "w_ji", "t_ij"),
    ("school1", "school2", "win1", "win2", "tied"),
    ("player1", "player2", "win1", "win2", "tied"),
    ("item1", "item2", "win1", "win2", "tied"),
    ("system_a", "system_b", "wins_a", "wins_b", "ties"),
    ("model_a", "model_b", "wins_a", "wins_b", "ties"),
)


def _count_names(row: Any) -> tuple[str, str, str, str, str | None] | None:
    return next((names for names in _COUNTS if all(name in row for name in names[:4])), None)


def _convert_counts(fields: Fields, given: Given) -> list[Made]:
    names = _count_names(fields.row)
    if names is None:
        raise RowError("there are no two names with counts of wins")
    first, second = fields.word(names[0]), fields.word(names[1])
    made: list[Made] = []
    who = {"user": fields.user(), "time": fields.time()}
    counts = [(result, fields.number(name)) for result, name in zip("ab", names[2:4], strict=True)]
    if names[4] and names[4] in fields and fields.row[names[4]] is not None:
        counts.append(("tie", fields.number(names[4])))
    if any(count < 0 or not count.is_integer() for _, count in counts):
        raise RowError("a number of wins is not a whole number")
    if sum(count for _, count in counts) > _MOST_WINS:
        raise RowError(f"there are more than {_MOST_WINS:,} wins in one row")
    extra = fields.extra()
    for result, count in counts:
        made += [("battle", {"system_a": first, "system_b": second, "outcome": result, **who, "extra": extra})] * int(
            count
        )
    if not made:
        raise RowError("nobody won and nothing was tied")
    return made


def _recognise_counts(look: Look) -> str | None:
    names = _count_names(look.fields)
    return f"it has `{names[0]}`, `{names[1]}` and how often each won" if names else None


def _convert_results(fields: Fields, given: Given) -> list[Made]:
    """Matches between a home and an away side: 1 home wins, 0 draw, -1 away wins."""
    result = {1.0: "a", 0.0: "tie", -1.0: "b"}.get(fields.number("result"))
    if result is None:
        raise RowError("`result` is none of 1, 0, -1")
    battle = {"system_a": fields.word("home"), "system_b": fields.word("away"), "outcome": result}
    who = {"user": fields.user(), "time": fields.time()}
    return [("battle", {**battle, **who, "extra": fields.extra()})]


def _recognise_results(look: Look) -> str | None:
    return "it has `home`, `away` and a `result`" if look.has("home", "away", "result") else None


def _convert_verdicts(fields: Fields, given: Given) -> list[Made]:
    """Verdicts of judges on pairs of texts that lie in another file, in both orders of presentation."""
    if given.items is None:
        raise RowError("the texts of the pairs are not there")
    row: Row = given.items.rows.get(fields.word(_pair_key(fields.row)), {})
    first, second = (row.get("output_1", row.get("response_A")), row.get("output_2", row.get("response_B")))
    prompt = row.get("input", row.get("question"))
    if not (isinstance(first, str) and isinstance(second, str) and isinstance(prompt, str)):
        raise RowError("the item is not in the file of items")
    extra, judge = fields.extra(), fields.find("judge", "judgename")
    made: list[Made] = []
    verdicts = _verdicts(fields.row)
    for _ in range(2 - len(verdicts)):
        fields.skip("a judge's verdict does not say which answer is better")
    for result in verdicts:
        chosen, rejected, strength = preferred(first, second, result)
        columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "strength": strength}
        made.append(("comparison", {**columns, "user": fields.word(str(judge)), "extra": extra}))
    if not made:
        raise RowError("no verdict says which answer is better")
    return made


def _pair_key(row: Any) -> str:
    return "pair_id" if "pair_id" in row else "id"


def _verdicts(row: Row) -> list[str]:
    """What was said in each order, in terms of the original order."""
    if "winner_original_order" in row:
        words = (row.get("winner_original_order"), row.get("winner_swapped_order"))
        return [{"1": "a", "2": "b"}[word] for word in map(str, words) if word in ("1", "2")]
    decisions = row.get("decisions")
    found = [outcome(as_word(word) or "") for word in decisions] if isinstance(decisions, list) else []
    swapped: Mapping[str | None, str] = {"a": "b", "b": "a", "tie": "tie"}
    original = [word for word in found[:1] if word in ("a", "b", "tie")]
    return [str(word) for word in original] + [swapped[word] for word in found[1:2] if word in swapped]


def _recognise_verdicts(look: Look) -> str | None:
    if look.has("id", "judge", "winner_original_order", "winner_swapped_order"):
        return "it has a judge's winner in both orders, for pairs in another file"
    if look.has("pair_id", "judge_name", "decisions"):
        return "it has a judge's `decisions` in both orders, for pairs in another file"
    return None


_QUESTIONS = ItemsFile(("questions", "question"), ("questionid",))
BATTLES = Format(
    "battles", "votes between two systems", ("model_a", "model_b", "winner"), _recognise, _convert, items=_QUESTIONS
)
SIDES = Format("sides", "votes for left or right", ("prompt", "human_vote"), _recognise_sides, _convert_sides)
RANKED_SYSTEMS = Format(
    "ranked_systems",
    "ranks of two systems",
    ("system_a", "system_b", "rank_a", "rank_b"),
    _recognise_ranks,
    _convert_ranks,
)
COUNTS = Format(
    "win_counts", "how often each of two won", ("item1", "item2", "win1", "win2"), _recognise_counts, _convert_counts
)
RESULTS = Format(
    "match_results", "results of matches", ("home", "away", "result"), _recognise_results, _convert_results
)
VERDICTS = Format(
    "judge_verdicts",
    "judges' verdicts on pairs in another file",
    ("id", "judge", "winner_original_order", "winner_swapped_order"),
    _recognise_verdicts,
    _convert_verdicts,
    items=ItemsFile(("pairs",), ("pairid", "id"), ("pairid", "id")),
)
