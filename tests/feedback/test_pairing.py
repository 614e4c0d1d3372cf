"""Pairs from other votes: the better one is chosen, within what one person judged, and what is left out is counted."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import DataError, SettingsError
from penchant.feedback.pairing import comparisons, of_all
from penchant.records import Battles, Comparisons, Edits, Interactions, Observations, Rankings, Ratings, Reactions


def ratings(*rows, user="ann"):
    return Ratings.from_rows([{"prompt": p, "response": r, "score": s, "user": user} for p, r, s in rows])


def pairs_of(records, **settings):
    found, dropped = comparisons(records, **settings)
    return [(row["prompt"], row["chosen"], row["rejected"]) for row in found.table.to_pylist()], dropped


def test_answers_to_one_prompt_are_paired_within_it():
    found, dropped = pairs_of(ratings(("q", "a", 1), ("q", "b", 2), ("p", "c", 5)))
    assert found == [("q", "b", "a")]
    assert dropped == {}


def test_items_of_different_prompts_are_paired_with_their_prompts():
    found, _ = pairs_of(ratings(("q", "a", 1), ("p", "b", 2)))
    assert found == [("", "p\n\nb", "q\n\na")]


def test_people_are_never_paired_with_each_other_and_keep_their_names():
    both = Ratings.concat([ratings(("", "a", 1), ("", "b", 2)), ratings(("", "a", 2), ("", "b", 1), user="bob")])
    found, _ = comparisons(both)
    assert [(r["user"], r["chosen"]) for r in found.table.to_pylist()] == [("ann", "b"), ("bob", "a")]


def test_aspects_are_never_mixed():
    rows = [
        {"prompt": "", "response": r, "score": s, "aspect": a, "user": "ann"}
        for r, s, a in (("x", 1, "f"), ("y", 9, "g"))
    ]
    assert len(comparisons(Ratings.from_rows(rows))[0]) == 0


def test_rankings_give_every_pair_of_different_rank_and_only_within_one_ranking():
    ranked = Rankings.from_rows(
        [
            {"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 2, 2], "user": "ann"},
            {"prompt": "q", "responses": ["d", "e"], "user": "ann"},
        ]
    )
    found, dropped = pairs_of(ranked)
    assert found == [("q", "a", "b"), ("q", "a", "c"), ("q", "d", "e")]
    assert dropped == {"tied pairs": 1}


def test_battles_reactions_and_interactions():
    battles = Battles.from_rows(
        [{"system_a": "x", "system_b": "y", "outcome": o, "user": "ann"} for o in ("a", "b", "tie", "both_bad")]
    )
    found, dropped = pairs_of(battles)
    assert found == [("", "x", "y"), ("", "y", "x")]
    assert sum(dropped.values()) == 2
    reactions = Reactions.from_rows(
        [
            {"prompt": "q", "response": r, "reaction": k, "user": "ann"}
            for r, k in (("a", "love"), ("b", "regenerate"), ("c", "?"))
        ]
    )
    assert pairs_of(reactions) == ([("q", "a", "b")], {"reaction '?' is neither for nor against": 1})
    watched = Interactions.from_rows(
        [{"user": "ann", "item": i, "value": v} for i, v in (("m", 5), ("n", 1), ("o", None))]
    )
    assert pairs_of(watched) == ([("", "m", "n")], {"interactions without a value": 1})


def test_the_cap_is_kept_and_what_it_cost_is_counted():
    many = ratings(*[("", str(i), i) for i in range(40)])
    found, dropped = comparisons(many, max_pairs_per_user=50, seed=1)
    assert len(found) == 50
    assert dropped == {"pairs beyond the most per person": 150 - 50} or sum(dropped.values()) > 0
    assert all(int(r["chosen"]) > int(r["rejected"]) for r in found.table.to_pylist())
    assert comparisons(many, max_pairs_per_user=50, seed=1)[0].table.equals(found.table)
    assert not comparisons(many, max_pairs_per_user=50, seed=2)[0].table.equals(found.table)


@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abcd"), st.integers(0, 2)), max_size=8))
def test_all_pairs_are_either_made_or_counted(rows):
    found, dropped = comparisons(ratings(*rows), max_pairs_per_user=None)
    sizes = Counter(prompt for prompt, _, _ in rows)
    within = sum(n * (n - 1) // 2 for n in sizes.values())
    expected = within if within else len(rows) * (len(rows) - 1) // 2
    assert len(found) + sum(dropped.values()) == expected


def test_comparisons_pass_through_and_what_nobody_judged_does_not():
    own = Comparisons.from_rows([{"prompt": "", "chosen": "a", "rejected": "b"}])
    assert comparisons(own)[0] is own
    with pytest.raises(DataError, match="No comparisons follow from records of kind observation"):
        comparisons(Observations.from_rows([{"text": "a", "user": "ann"}]))


def test_whoever_changes_a_draft_prefers_the_revision():
    rows = [{"draft": "a", "revision": "b", "context": "c", "user": "ann"}, {"draft": "a", "revision": "a"}]
    found, dropped = comparisons(Edits.from_rows(rows))
    columns = ["prompt", "chosen", "rejected", "user"]
    assert found.table.select(columns).to_pylist() == [dict(zip(columns, ("c", "b", "a", "ann"), strict=True))]
    assert dropped == {"edits that changed nothing": 1}


def test_a_vote_that_came_with_both_answers_counts_once():
    battle = Battles.from_rows([{"system_a": "x", "system_b": "y", "outcome": "a", "user": "ann"}])
    said = Comparisons.from_rows([{"prompt": "q", "chosen": "a", "rejected": "b", "user": "ann"}])
    found, dropped, kinds = of_all([battle, said])
    assert (len(found), kinds) == (1, {"comparison"})
    assert dropped == {"battles, where answers can be compared": 1}
    alone, dropped, kinds = of_all([battle])
    assert (alone.table["chosen"].to_pylist(), kinds, dropped) == (["x"], {"battle"}, {})


def test_messages_under_different_questions_become_text_with_their_question():
    asked, told = '[{"content":"Why?","role":"user"}]', '[{"content":"So.","role":"assistant"}]'
    rows = [
        {"prompt": asked, "response": told, "score": 2.0, "form": "messages", "user": "u"},
        {
            "prompt": '[{"content":"How?","role":"user"}]',
            "response": told,
            "score": 1.0,
            "form": "messages",
            "user": "u",
        },
    ]
    [row] = comparisons(Ratings.from_rows(rows))[0].table.to_pylist()
    assert (row["chosen"], row["rejected"], row["form"]) == ("Why?\n\nSo.", "How?\n\nSo.", None)
    with pytest.raises(SettingsError):
        comparisons(ratings(("q", "a", 1)), max_pairs_per_user=0)
