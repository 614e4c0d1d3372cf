"""Benchmarks become tasks: columns found or named, wishes few and consistent, tasks that cannot be scored refused."""

import json
from collections import Counter

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.discovery_tasks import Problem, assigned, authored, people, read, task_of

LEVELS = ["a", "b", "c", "d", "e"]


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def record(weights=(0.4, 0.6), names=("tone", "depth"), wanted=("tone", "depth")):
    criteria = [
        {"preference": n, "description": "", "levels": LEVELS, "weight": w} for n, w in zip(names, weights, strict=True)
    ]
    return {
        "problem_id": "p1",
        "question": "2 + 2?",
        "answer": "4",
        "persona_id": "ann",
        "persona_preferences": {name: {"value": "high", "local_importance": 1, "justification": ""} for name in wanted},
        "evaluation_rubric": {"evaluation_criteria": criteria},
    }


def test_columns_are_found_by_their_names_in_any_form_of_file(tmp_path):
    rows = [{"problem": "2 + 2?", "target": "4"}, {"problem": "Sky?", "target": "blue"}]
    csv = tmp_path / "x.csv"
    csv.write_text("Frage,question,answer\nx,2 + 2?,4\n", encoding="utf-8")
    whole = tmp_path / "x.json"
    whole.write_text(json.dumps(rows), encoding="utf-8")
    assert [p.answer for p in read(lines(tmp_path / "x.jsonl", *rows)).problems] == ["4", "blue"]
    assert [p.answer for p in read(whole).problems] == ["4", "blue"]
    assert read(csv).problems[0].question == "2 + 2?"
    assert read(csv, question="Frage").problems[0].question == "x"


def test_an_unknown_column_says_what_there_is(tmp_path):
    file = lines(tmp_path / "x.jsonl", {"frage": "2 + 2?", "answer": "4"})
    with pytest.raises(DataError, match=r"record 1 has no column for the question .*\['frage', 'answer'\].*--question"):
        read(file)
    with pytest.raises(DataError, match="no column 'frag': did you mean 'frage'"):
        read(file, question="frag")


def test_options_come_as_mapping_list_or_pairs_and_the_answer_becomes_a_letter(tmp_path):
    q = {"question": "Sky?"}
    found = read(
        lines(
            tmp_path / "x.jsonl",
            q | {"options": {"A": "red", "B": "blue"}, "answer": "B"},
            q | {"options": ["red", "blue"], "answer": "blue"},
            q | {"choices": {"label": ["A", "B"], "text": ["red", "blue"]}, "answerKey": "B"},
            q | {"choices": ["red", "blue"], "answer": 1},
            q | {"options": ["red", "blue"], "answer": "green"},
            q | {"options": ["red", "blue"], "answer": 2},
        )
    )
    assert [p.answer for p in found.problems] == ["B"] * 4
    assert found.dropped == {"the answer is none of the options": 2}
    assert found.problems[0].text() == "Sky?\nA. red\nB. blue"


def test_what_cannot_be_asked_is_counted_and_equal_ids_are_refused(tmp_path):
    good = {"question": "2 + 2?", "answer": "4"}
    found = read(
        lines(tmp_path / "x.jsonl", good, good | {"image": "cat.png"}, good | {"answer": ""}, good | {"question": None})
    )
    assert len(found.problems) == 1
    assert found.dropped == {
        "needs a picture, which is not shown to chat models here": 1,
        "no answer": 1,
        "no question": 1,
    }
    with pytest.raises(DataError, match="1 ids name several"):
        read(lines(tmp_path / "y.jsonl", good | {"id": 7}, good | {"id": 7}))
    with pytest.raises(DataError, match="no problem"):
        read(lines(tmp_path / "z.jsonl", good | {"answer": ""}))


def test_weights_that_do_not_sum_to_one_unmatched_criteria_and_none_are_refused():
    assert task_of(record(), "x").preferences["depth"].weight == 0.6
    assert task_of(record(weights=(0.4, 0.64)), "x").preferences["depth"].weight == 0.64  # within the tolerance
    with pytest.raises(DataError, match=r"sum to 1\.060"):
        task_of(record(weights=(0.4, 0.66)), "x")
    with pytest.raises(DataError, match=r"not negative"):
        task_of(record(weights=(-0.4, 1.4)), "x")
    with pytest.raises(DataError, match="do not match, 1 of 2: depth"):
        task_of(record(wanted=("tone",)), "x")
    with pytest.raises(DataError, match="do not match, 1 of 2: length"):
        task_of(record(wanted=("tone", "depth", "length")), "x")
    with pytest.raises(DataError, match="has no criteria"):
        task_of(record(weights=(), names=(), wanted=()), "x")
    broken = record()
    broken["evaluation_rubric"]["evaluation_criteria"][0]["levels"] = ["a"]
    with pytest.raises(DataError, match="rubric is not valid"):
        task_of(broken, "x")


def test_wishes_are_few_sum_to_one_and_agree_over_problems_as_far_as_consistency_says():
    asked = [Problem(str(n), f"{n} + 1?", str(n + 1)) for n in range(60)]

    def agreement(consistency):
        tasks = assigned(asked, people(1, seed=1), consistency=consistency, seed=3)
        assert {len(task.preferences) for task in tasks} == {4, 5, 6}
        assert all(sum(p.weight for p in task.preferences.values()) == pytest.approx(1) for task in tasks)
        often = Counter(name for task in tasks[10:] for name in task.preferences)
        share = sum(count for _, count in often.most_common(6)) / often.total()
        values = {}
        for task in tasks:
            for name, one in task.preferences.items():
                values.setdefault(name, Counter())[one.value] += 1
        same = np.mean([counts.most_common(1)[0][1] / counts.total() for counts in values.values()])
        return share, same

    loose, usual, strict = (agreement(value) for value in (0.0, 0.8, 1.0))
    assert loose[0] < usual[0] < strict[0] == 1.0
    assert loose[1] < usual[1] < strict[1] == 1.0


def test_only_so_many_pairs_are_drawn_and_a_setting_out_of_range_is_refused():
    asked = [Problem(str(n), "2 + 2?", "4") for n in range(5)]
    drawn, whole = (assigned(asked, people(4), n_pairs=n) for n in (7, None))
    pairs, order = ([(task.persona.name, task.problem.id) for task in tasks] for tasks in (drawn, whole))
    assert len(pairs) == 7
    assert pairs == sorted(pairs) != order[:7], "drawn from all, in their order"
    with pytest.raises(SettingsError, match="fewest"):
        assigned(asked, people(4), fewest=7, most=6)


class Author:
    """Writes the same wishes; the second time it breaks the form."""

    name = "author"
    obeys_schema = False

    def __init__(self):
        self.seen, self.seeds = [], []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        self.seen.append(messages[-1]["content"])
        self.seeds.append(seed)
        if "3 + 3" in self.seen[-1]:
            return ["no idea"]
        one = {"preference": "tone", "value": "warm", "weight": 3, "levels": LEVELS}
        if "5 + 5" in self.seen[-1]:
            return [json.dumps({"criteria": [one | {"weight": 0}]})]
        return [json.dumps({"criteria": [one, one | {"preference": "depth", "weight": 1}]})]


def test_a_chat_model_writes_wishes_that_are_normalised_and_remembered_and_failures_are_counted():
    [ann] = people(1)
    asked = [Problem("1", "2 + 2?", "4"), Problem("2", "3 + 3?", "6"), Problem("3", "4 + 4?", "8")]
    author = Author()
    tasks, failed = authored([author], [(problem, ann) for problem in [*asked, Problem("4", "5 + 5?", "10")]], seed=7)
    assert [task.preferences["tone"].weight for task in tasks] == [0.75, 0.75]
    assert failed == {
        "no preferences were written": 1,
        "the written preferences have no weight or share a name": 1,
    }
    assert author.seeds == [7, 107, 108, 109, 110, 207, 307], "what does not fit is asked for again"
    assert "nothing yet" in author.seen[0]
    assert "tone: warm" in author.seen[-1]
