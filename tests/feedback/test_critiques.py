import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import DataError, PenchantError, SettingsError
from penchant.feedback import critiques, importing, rubrics
from penchant.feedback.critiques import Critiques, Instruction
from penchant.feedback.lessons import comparisons, ratings


class Writer:
    """Answers `name: quality`; the quality is the number in its name unless told otherwise."""

    def __init__(self, name, answer=None):
        self.name, self.answer, self.calls = name, answer, []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        self.calls.append((messages, seed))
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer if self.answer is not None else f"answer quality={self.name[-1]}"] * n


class Judge:
    """Rates each text by the quality written in it; `spoil(call number)` may replace its text."""

    def __init__(self, spoil=lambda call: None, overall=lambda quality: 2 * quality, rating=lambda quality: quality):
        self.name, self.spoil, self.overall, self.rating, self.calls = "judge", spoil, overall, rating, []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        prompt = messages[-1]["content"]
        self.calls.append({"prompt": prompt, "temperature": temperature, "seed": seed, "max_tokens": max_tokens})
        spoilt = self.spoil(len(self.calls))
        if isinstance(spoilt, Exception):
            raise spoilt
        if spoilt is not None:
            return [spoilt]
        qualities = [int(quality) for quality in re.findall(r"quality=(\d)", prompt)]
        if "Overall Score" in prompt:
            return [f"It is of quality {qualities[0]}.\nOverall Score: {self.overall(qualities[0])}"]
        asked = [aspect for aspect in rubrics.ASPECTS if f"# {rubrics.aspect_title(aspect)}\n" in prompt]
        lines = []
        for number, quality in enumerate(qualities, 1):
            lines.append(f"#### Output for Text {number}")
            for aspect in asked:
                lines += [f"##### {rubrics.aspect_title(aspect)}"] if len(asked) > 1 else []
                lines += ["Type: None"] if rubrics.RUBRICS[aspect].types else []
                lines += [f"Rating: {self.rating(quality)}", "Rationale: seen."]
        return ["\n".join(lines)]


def pool(n=5):
    return [Writer(f"model-{i}") for i in range(1, n + 1)]


def build(tasks, path=None, *, judge=None, models=None, **settings):
    return Critiques(models or pool(), judge or Judge(), **settings).build(
        tasks, path, progress=False, say=lambda line: None
    )


TASKS = [Instruction(f"Question {i}", source) for i, source in enumerate(["flan", "ultrachat", "false_qa"])]


def test_ratings_find_their_way_back_through_every_order():
    built = build(TASKS)
    assert built.problems == {}
    for record in built.records:
        assert len(set(record["models"])) == 4
        for one in record["completions"]:
            quality = int(one["model"][-1])
            assert {aspect: note["Rating"] for aspect, note in one["annotations"].items()} == dict.fromkeys(
                rubrics.ASPECTS, quality
            )
            assert one["fine-grained_score"] == quality
            assert one["overall_score"] == 2 * quality
            assert one["critique"] == f"It is of quality {quality}."


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2**20), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_order_shown_never_changes_whose_rating_is_whose(qualities, seed, separate):
    method = Critiques(pool(), Judge(), separate_aspects=separate)
    rated = method.rate(
        TASKS[0], [f"quality={q}" for q in qualities], rng=np.random.default_rng(seed), problems=Counter()
    )
    for aspect in rubrics.ASPECTS:
        assert [one[aspect]["Rating"] for one in rated] == qualities


def test_the_order_is_drawn_for_each_aspect_and_can_be_switched_off():
    def orders(shuffle):
        judge = Judge()
        method = Critiques(pool(), judge, shuffle=shuffle)
        method.rate(TASKS[0], [f"quality={q}" for q in "12345"], rng=np.random.default_rng(1), problems=Counter())
        return [tuple(re.findall(r"quality=(\d)", call["prompt"])) for call in judge.calls]

    assert len(set(orders(True))) > 1
    assert set(orders(False)) == {("1", "2", "3", "4", "5")}


def test_one_call_for_all_aspects_gives_what_separate_calls_give_to_a_judge_without_bias():
    judge = Judge()
    built = build(TASKS, judge=judge, separate_aspects=False)
    assert built.problems == {}
    assert len(judge.calls) == len(TASKS) * (1 + 4)
    for record in built.records:
        for one in record["completions"]:
            quality = int(one["model"][-1])
            assert {aspect: note["Rating"] for aspect, note in one["annotations"].items()} == dict.fromkeys(
                rubrics.ASPECTS, quality
            )
            assert one["fine-grained_score"] == quality


def test_one_call_for_all_aspects_may_say_as_much_as_the_separate_ones_together():
    judge = Judge()
    build(TASKS[:1], judge=judge, separate_aspects=False, judge_tokens=50)
    rated, *criticised = [call["max_tokens"] for call in judge.calls]
    assert rated == 50 * len(rubrics.ASPECTS)
    assert set(criticised) == {50}


def test_one_unreadable_call_for_all_aspects_loses_all_of_them():
    judge = Judge(spoil=lambda call: "no idea" if call <= 3 else None)
    built = build(TASKS[:1], judge=judge, attempts=3, separate_aspects=False)
    assert built.problems["no rating of any aspect in 3 attempts"] == 1
    assert built.problems["an answer without any rating"] == 4


def test_one_call_for_all_aspects_sees_reference_answers():
    judge = Judge()
    build([Instruction("Sky?", "truthful_qa", ("blue-ish",))], judge=judge, separate_aspects=False)
    assert "blue-ish" in judge.calls[0]["prompt"]
    assert not any("blue-ish" in call["prompt"] for call in judge.calls[1:])


def test_an_unreadable_judgement_is_asked_again_with_another_seed_and_temperature():
    judge = Judge(spoil=lambda call: "no idea" if call in (1, 2) else None)
    built = build(TASKS[:1], judge=judge)
    first, second, third = judge.calls[:3]
    assert first["temperature"] == 0
    assert second["temperature"] > 0
    assert len({call["seed"] for call in (first, second, third)}) == 3
    assert first["prompt"] == second["prompt"] == third["prompt"]
    assert built.problems == {"asked again: the judge's answer does not hold one block a text": 2}
    assert built.records[0]["completions"][0]["fine-grained_score"] is not None


def test_an_aspect_that_stays_unreadable_is_absent_and_counted():
    judge = Judge(spoil=lambda call: "no idea" if call <= 3 else None)
    built = build(TASKS[:1], judge=judge, attempts=3)
    assert built.problems["no rating of instruction_following in 3 attempts"] == 1
    one = built.records[0]["completions"][0]
    assert set(one["annotations"]) == set(rubrics.ASPECTS) - {"instruction_following"}
    assert one["fine-grained_score"] == int(one["model"][-1])


def test_ratings_of_na_everywhere_leave_a_record_without_score_and_pairs():
    built = build(TASKS[:1], judge=Judge(rating=lambda quality: "N/A"))
    assert built.problems["an answer without any rating"] == 4
    pairs, dropped = comparisons(built.records)
    assert len(pairs) == 0
    assert dropped == {"an answer without a score": 6}
    assert set(ratings(built.records).table["aspect"].to_pylist()) == {"overall"}


@pytest.mark.parametrize(
    ("rating", "score", "count"),
    [(1, 1.0, "overall 10 set to 1"), (2, 1.0, "overall 10 set to 1"), (5, 10.0, None)],
)
def test_an_overall_ten_against_low_aspects_becomes_a_one(rating, score, count):
    judge = Judge(overall=lambda quality: 10, rating=lambda quality: rating)
    built = build(TASKS[:1], judge=judge)
    assert {one["overall_score"] for one in built.records[0]["completions"]} == {score}
    assert {one["overall_score_as_given"] for one in built.records[0]["completions"]} == {10.0}
    assert built.problems == ({count: 4} if count else {})
    kept = build(TASKS[:1], judge=judge, repair=False)
    assert {one["overall_score"] for one in kept.records[0]["completions"]} == {10.0}


def test_an_overall_ten_between_is_asked_again_warm():
    answers = iter([10, 6] * 4)
    judge = Judge(overall=lambda quality: next(answers), rating=lambda quality: 3)
    built = build(TASKS[:1], judge=judge)
    assert built.problems == {"overall 10 asked again": 4}
    assert {one["overall_score"] for one in built.records[0]["completions"]} == {6.0}
    assert judge.calls[-1]["temperature"] > 0


def test_models_that_fail_or_say_nothing_are_counted_and_the_others_rated():
    class TooLongError(PenchantError):
        pass

    models = [
        Writer("model-1"),
        Writer("model-2"),
        Writer("a", " "),
        Writer("b", TooLongError("Prompt of 999 tokens.")),
    ]
    built = build(TASKS[:1], models=models)
    assert built.problems == {"an empty answer": 1, "no answer: Prompt of N tokens.": 1}
    rated = [one for one in built.records[0]["completions"] if one["annotations"]]
    assert {one["model"] for one in rated} == {"model-1", "model-2"}
    pairs, dropped = comparisons(built.records)
    assert len(pairs) == 1
    assert dropped == {"an answer without a score": 5}
    alone = build(TASKS[:1], models=[Writer("model-1"), *[Writer(f"mute-{i}", "") for i in range(3)]])
    assert alone.problems["fewer than 2 answers, nothing to rate"] == 1
    assert len(ratings(alone.records)) == 0


def test_a_prompt_too_long_for_the_judge_is_not_asked_again():
    judge = Judge(spoil=lambda call: DataError("Prompt of 9,000 tokens is longer than the context of 8,192."))
    built = build(TASKS[:1], judge=judge)
    assert len(judge.calls) == 8
    assert sum(built.problems.values()) == 8 + 4
    assert "no critique: Prompt of N tokens is longer than the context of N" in built.problems


def test_a_judge_that_breaks_off_is_asked_again():
    judge = Judge(spoil=lambda call: PenchantError("The server said 503.") if call == 1 else None)
    built = build(TASKS[:1], judge=judge)
    assert built.problems == {"asked again: The server said N": 1}


def test_identical_answers_are_counted_and_make_no_pair():
    built = build(TASKS[:1], models=[Writer(f"m{i}", "same quality=3") for i in range(4)])
    assert built.problems == {"identical answers": 1}
    assert comparisons(built.records)[1] == {"identical answers": 6}


def test_the_judge_sees_the_principle_but_not_its_examples():
    judge, models = Judge(), pool()
    Critiques(models, judge, seed=1).build(
        [Instruction(f"q{i}", "flan") for i in range(30)], progress=False, say=lambda line: None
    )
    told = {message[0]["content"] for model in models for message, _ in model.calls}
    calibration = rubrics.PRINCIPLES["verbalized_calibration"][0]
    assert calibration.wish + calibration.examples in told
    seen = "\n".join(call["prompt"] for call in judge.calls)
    assert f"Note: {calibration.wish}" in seen
    assert calibration.examples.strip() not in seen


def test_principles_follow_the_source():
    records = build([Instruction(f"q{i}", "False-QA") for i in range(10)]).records
    assert {one["principle"] for record in records for one in record["completions"]} == {"truthfulness"}


def test_reference_answers_reach_the_judge_of_truthfulness_only():
    judge = Judge()
    build([Instruction("Sky?", "truthful_qa", ("blue-ish",), ("green-ish",))], judge=judge)
    seen = [("blue-ish" in call["prompt"], "# Truthfulness" in call["prompt"]) for call in judge.calls]
    assert seen.count((True, True)) == 1
    assert (True, False) not in seen


def test_a_killed_run_goes_on_where_it_stopped_and_ends_the_same(tmp_path):
    path = tmp_path / "records.jsonl"
    whole = build(TASKS, tmp_path / "whole.jsonl")

    class Killed(Exception):  # noqa: N818 - stands for a kill, not for an error
        pass

    with pytest.raises(Killed):
        build(TASKS, path, judge=Judge(spoil=lambda call: Killed() if call == 12 else None))
    assert len(path.read_text().splitlines()) == 1
    with path.open("a") as file:
        file.write('{"id": "torn')
    judge = Judge()
    resumed = build(TASKS, path, judge=judge)
    assert resumed.n_known == 1
    assert len(judge.calls) == 2 * 8
    assert resumed.records == whole.records
    assert resumed.problems == {"torn last line": 1}
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [one["id"] for one in whole.records]
    again = build(TASKS, path, judge=Judge(spoil=lambda call: Killed()))
    assert again.n_known == 3
    assert again.records == whole.records


def test_unreadable_lines_in_the_file_are_counted_and_done_again(tmp_path):
    path = tmp_path / "records.jsonl"
    build(TASKS, path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "not json", lines[2]]) + "\n")
    built = build(TASKS, path)
    assert built.n_known == 2
    assert built.problems == {"unreadable line in the file": 1}


def test_other_settings_do_not_take_up_records_of_a_former_run(tmp_path):
    path = tmp_path / "records.jsonl"
    build(TASKS, path)
    assert build(TASKS, path, seed=1).n_known == 0
    assert build(TASKS, path, separate_aspects=False).n_known == 0
    assert build([Instruction("Question 0", "other")], path).n_known == 0


def test_threads_give_the_same_records_as_one(tmp_path):
    tasks = [Instruction(f"q{i}", "flan") for i in range(12)]
    assert build(tasks, tmp_path / "a.jsonl", n_threads=4).records == build(tasks).records


def test_equal_instructions_are_done_as_often_as_they_come():
    built = build([TASKS[0], TASKS[0]])
    assert len({record["id"] for record in built.records}) == 2


@pytest.mark.parametrize(("separate", "calls"), [(True, 36), (False, 27)])
def test_the_estimate_comes_before_the_first_call_and_counts_every_call(separate, calls):
    judge, models, said = Judge(), pool(), []
    prices = {"judge": (0.01, 0.02)} | {model.name: (0.001, 0.002) for model in models}
    method = Critiques(models, judge, prices=prices, separate_aspects=separate)

    def say(line):
        assert not judge.calls
        said.append(line)

    method.build(TASKS, progress=False, say=say)
    estimate = method.estimate(TASKS)
    assert said == [str(estimate)]
    assert estimate.calls == len(judge.calls) + sum(len(model.calls) for model in models) == calls
    assert estimate.completion_tokens == 3 * (4 * 512 + 8 * 500)
    sent = sum(len(call["prompt"]) for call in judge.calls) / 4
    assert estimate.prompt_tokens > sent
    assert estimate.price > 3 * 8 * 500 * 0.02 + 3 * 4 * 512 * 0.002
    assert method.estimate([]).calls == 0


def test_lone_surrogates_of_a_cut_answer_do_not_reach_the_records(tmp_path):
    models = [*pool(3), Writer("cut", "quality=2 \ud83d")]
    built = build(TASKS[:1], tmp_path / "a.jsonl", models=models)
    assert len(ratings(built.records)) == 20
    with pytest.raises(DataError):
        Instruction("\ud83d")
    with pytest.raises(DataError):
        Instruction("  ")


@pytest.mark.parametrize("settings", [{"n_models": 1}, {"n_models": 6}, {"attempts": 0}, {"n_threads": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(SettingsError):
        Critiques(pool(), Judge(), **settings)
    with pytest.raises(SettingsError):
        Critiques([Writer("a"), Writer("a")], Judge(), n_models=2)


def test_no_instructions_make_no_records():
    assert build([]) == critiques.Built([], {}, 0)


def test_the_file_of_a_run_imports_as_the_published_form_does(tmp_path):
    path = tmp_path / "records.jsonl"
    built = build(TASKS, path)
    imported = importing.read(path)
    assert (imported.format, imported.rows, imported.kept, imported.dropped) == ("ultrafeedback", 3, 3, {})
    theirs, ours = imported.records["rating"], ratings(built.records)

    def scores(table):
        rows = zip(
            *(table[name].to_pylist() for name in ("prompt", "response", "aspect", "score", "high")), strict=True
        )
        return sorted(rows)

    assert scores(theirs.table) == scores(ours.table)
