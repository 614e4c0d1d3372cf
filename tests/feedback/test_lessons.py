import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.feedback import rubrics
from penchant.feedback.lessons import comparisons, critique_lessons, ratings, tally


def answer(text, score, *, overall=None, as_given=None, rating=None):
    """One answer as `Critiques` records it; `rating` of each aspect is the score unless given."""
    given = score if rating is None else rating
    notes = {aspect: {"Rating": given, "Rationale": "seen"} for aspect in rubrics.ASPECTS} if score else {}
    return {
        "model": "m",
        "principle": "helpfulness",
        "response": text,
        "annotations": notes,
        "critique": None if overall is None else f"On {text}.",
        "overall_score": overall,
        "overall_score_as_given": overall if as_given is None else as_given,
        "fine-grained_score": score,
    }


def record(*answers, instruction="q", source="flan", problems=None):
    shared = {"instruction": instruction, "source": source, "judge": "j", "problems": problems or {}}
    return shared | {"completions": list(answers)}


def test_a_pairs_strength_is_half_plus_half_its_share_of_the_scale():
    answers = answer("a", 5.0, overall=10.0), answer("b", 1.0, overall=1.0), answer("c", 2.0, overall=5.5)
    pairs, dropped = comparisons([record(*answers)])
    rows = {(row["chosen"], row["rejected"]): row["strength"] for row in pairs.table.to_pylist()}
    assert rows == {("a", "b"): 1.0, ("a", "c"): 0.875, ("c", "b"): 0.625}
    assert dropped == {}
    by_overall, _ = comparisons([record(*answers)], by="overall")
    rows = {(row["chosen"], row["rejected"]): row["strength"] for row in by_overall.table.to_pylist()}
    assert rows == {("a", "b"): 1.0, ("a", "c"): 0.75, ("c", "b"): 0.75}


@given(st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=5), max_size=4))
def test_pairs_are_all_those_of_one_instruction_with_different_scores(prompts):
    records = [
        record(*[answer(f"{i}-{j}", float(score)) for j, score in enumerate(scores)], instruction=f"q{i}")
        for i, scores in enumerate(prompts)
    ]
    pairs, dropped = comparisons(records)
    different = sum(a != b for scores in prompts for i, a in enumerate(scores) for b in scores[:i])
    everyone = sum(len(scores) * (len(scores) - 1) // 2 for scores in prompts)
    assert len(pairs) == different
    assert dropped.get("equal scores", 0) == everyone - different


def test_the_score_before_the_repair_makes_the_pairs_that_the_repair_turns_round():
    answers = answer("bad", 1.0, overall=1.0, as_given=10.0), answer("good", 4.0, overall=8.0)
    chosen = {
        by: comparisons([record(*answers)], by=by)[0].table["chosen"].to_pylist()
        for by in ("aspects", "overall", "overall_as_given")
    }
    assert chosen == {"aspects": ["good"], "overall": ["good"], "overall_as_given": ["bad"]}


def test_what_makes_no_pair_is_counted_by_its_reason():
    pairs, dropped = comparisons(
        [record(answer("a", 3.0), answer("b", 3.0), answer("a", 4.0), answer("d", None))], exclude_sources=["x"]
    )
    assert len(pairs) == 1
    assert dropped == {"equal scores": 1, "identical answers": 1, "an answer without a score": 3}
    pairs, dropped = comparisons([record(answer("a", 3.0), answer("b", 4.0))], exclude_sources=["FLAN"])
    assert len(pairs) == 0
    assert dropped == {"source excluded": 1}


def test_a_tally_counts_scores_duplicates_and_failed_judgements():
    records = [
        record(
            answer("a", 3.0, overall=1.0, as_given=10.0, rating=3),
            answer("a", 3.0, overall=8.5, rating=4),
            answer("", None),
            problems={
                "asked again: a rating is missing": 2,
                "no critique in 3 attempts": 1,
                "no rating of honesty: Prompt of N tokens is too long": 1,
                "overall 10 asked again": 5,
            },
        ),
        record(answer("a", 3.0, rating="N/A"), answer("b", 3.0, rating=3)),
    ]
    counted = tally(records)
    assert counted.scores["honesty"] == {"3": 2, "4": 1, "N/A": 1}
    assert list(counted.scores["honesty"]) == ["3", "4", "N/A"]
    assert counted.scores["overall"] == {"1": 1, "8.5": 1}
    assert list(counted.scores["overall_as_given"]) == ["8.5", "10"]
    assert (counted.n_answers, counted.n_repeated, counted.n_repeated_instructions) == (4, 1, 1)
    assert (counted.n_failed_attempts, counted.n_given_up) == (2, 2)
    assert tally([]).scores == {}


def test_ratings_carry_scale_aspect_and_reason():
    rows = ratings([record(answer("a", 4.0, overall=9.0), answer("b", 2.0, rating="N/A"))]).table.to_pylist()
    assert len(rows) == 5
    assert {(row["low"], row["high"]) for row in rows if row["aspect"] == "overall"} == {(1.0, 10.0)}
    assert {(row["low"], row["high"]) for row in rows if row["aspect"] != "overall"} == {(1.0, 5.0)}
    assert {row["rationale"] for row in rows} == {"seen", "On a."}
    assert json.loads(rows[0]["extra"]) == {"model": "m", "principle": "helpfulness", "judge": "j"}


def test_lessons_for_a_critique_model_end_in_the_critique_and_its_score():
    lessons = critique_lessons([record(answer("a", 4.0, overall=8.5), answer("b", 2.0), instruction="Why?")])
    assert len(lessons) == 1
    asked, said = json.loads(lessons.table["messages"][0].as_py())
    assert rubrics.parse_critique(said["content"]) == ("On a.", pytest.approx(8.5))
    assert "Why?" in asked["content"]
