import gc
import json
import tracemalloc
from itertools import count, islice

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.feedback.personas import Persona, Personas, invented, similarity

TASTES = ("tea", "coffee", "water", "juice")


class Words:
    """Counts of the tastes in a text."""

    name = "words"

    def encode(self, texts):
        return np.array([[text.count(taste) for taste in TASTES] + [0.1] for text in texts], dtype=np.float32)


class Writer:
    """Answers in the spirit of the view it is given; lists one view for each taste."""

    name = "writer"

    def __init__(self, *, dull=0):
        self.dull, self.n_asked = dull, 0  # times that all views are one

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        text = messages[-1]["content"]
        if "points of view" in text:
            self.n_asked += 1
            views = [f"likes {'tea' if self.n_asked <= self.dull else taste}" for taste in TASTES]
            return [json.dumps({"views": views})]
        if "Invent one person" in text:
            return [json.dumps({"description": text.split("known: ")[1].split(". Describe")[0]})]
        question, _, view = text.partition("\n\nAnswer from this point of view, without naming it: ")
        return [f"{view.removeprefix('likes ')} {question}"]


class Judge:
    """Decides by the last taste that the description names and an answer has; otherwise it leans somewhere."""

    name = "judge"

    def __init__(self, *, leans="neither"):
        self.leans = leans

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        text = messages[-1]["content"]
        described = text.partition("A person: ")[2].partition("\n\nQuestion: ")[0]
        question = text.partition("\n\nQuestion: ")[2].partition("\n\nFirst answer:")[0]
        first = text.partition("First answer:\n")[2].partition("\n\nSecond answer")[0]
        second = text.partition("Second answer:\n")[2].partition("\n\nWhich")[0]
        for line in reversed(described.split("\n")):
            wanted = next((taste for taste in TASTES if f"likes {taste}" in line), None)
            if f'Asked "{question}"' in line:
                wanted = line.partition("such as ")[2][1:].split()[0]
            for answer, name in ((first, "first"), (second, "second")):
                if wanted and answer.startswith(wanted):
                    return [json.dumps({"choice": name})]
        return [json.dumps({"choice": self.leans})]


def pipeline(*, judge=None, writer=None, **more):
    return Personas([writer or Writer()], judge or Judge(), encoder=Words(), **more)


def people(n):
    return (Persona(f"p{i}", f"likes {TASTES[i % 4]}") for i in range(n))


QUESTIONS = [f"What to serve at {place}?" for place in ("home", "work", "sea", "night", "noon", "dawn", "rest", "play")]


def test_labels_follow_the_description_where_it_decides():
    made = pipeline(recheck=1.0)
    for one in made.stream(people(8), QUESTIONS):
        taste = one.persona.description.split("\n")[0].removeprefix("likes ")
        for row in one.comparisons.table.to_pylist():
            assert not row["rejected"].startswith(taste)
            assert row["source"] == "synthetic"
            assert row["chosen"].startswith(taste) == (json.loads(row["extra"])["label"] == "judge")
    assert made.report.n_people == 8
    assert made.report.n_comparisons == 64


def test_a_coin_decides_once_and_is_remembered_so_that_people_are_consistent():
    refined, unrefined = pipeline(recheck=1.0), pipeline(recheck=1.0, refine=False, min_consistency=0.0)
    with_memory = list(refined.stream(people(8), QUESTIONS))
    without = list(unrefined.stream(people(8), QUESTIONS))
    assert refined.report.n_settled == unrefined.report.n_settled > 10
    assert refined.report.consistency == 1.0
    assert refined.report.entropy == 0.0
    assert unrefined.report.consistency < 0.9
    assert unrefined.report.entropy > 0.2
    one = next(one for one in with_memory if one.n_settled)
    assert one.persona.description.count("\nAsked ") == one.n_settled
    assert all(one.persona.description.count("\n") == 0 for one in without)


def test_people_whose_labels_are_not_confirmed_are_left_out_and_counted():
    made = pipeline(recheck=1.0, refine=False, min_consistency=0.95)
    kept = list(made.stream(people(8), QUESTIONS))
    assert len(kept) + made.report.left_out["people whose labels were not confirmed"] == 8
    assert len(kept) < 8
    assert all(one.consistency >= 0.95 for one in kept)


def test_a_judge_that_always_takes_the_first_decides_nothing():
    made = pipeline(judge=Judge(leans="first"))
    assert made.votes("likes nothing", "What?", "tea a", "juice b") == 0.5
    assert made.votes("likes juice", "What?", "tea a", "juice b") == 0.0
    assert made.votes("likes juice", "What?", "juice b", "tea a") == 1.0


def test_answers_that_are_too_much_alike_are_asked_for_again_and_then_left_out():
    writer = Writer(dull=1)
    made = pipeline(writer=writer)
    assert len(made.answers("What?")) == 4
    assert writer.n_asked == 2
    assert made.report.similarity < 0.1
    stubborn = pipeline(writer=Writer(dull=99))
    assert stubborn.answers("What?") == []
    assert stubborn.report.left_out["questions whose answers are too much alike"] == 1
    with pytest.raises(DataError, match="None of 8 questions has answers that differ enough"):
        list(pipeline(writer=Writer(dull=999)).stream(people(2), QUESTIONS))


def test_similarity_is_the_mean_cosine():
    assert similarity(Words(), ["tea", "tea tea"]) == pytest.approx(1.0, abs=0.01)
    three = ["tea", "coffee", "tea"]
    vectors = Words().encode(three)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert similarity(Words(), three) == pytest.approx(
        np.mean([unit[0] @ unit[1], unit[0] @ unit[2], unit[1] @ unit[2]])
    )


def test_only_answers_of_like_length_are_paired():
    made = pipeline(max_length_ratio=1.0)
    answers = {"What?": ["tea", "coffee", "juice", "water"]}
    for number in range(10):
        one = made.labelled(Persona(f"p{number}", "likes juice"), answers)
        [row] = one.comparisons.table.to_pylist()
        assert {row["chosen"], row["rejected"]} == {"juice", "water"}
    assert made.labelled(Persona("p", "likes tea"), {"What?": ["tea", "coffee"]}) is None
    assert made.report.left_out["pairs without two answers of like length"] == 1


def test_the_same_seed_makes_the_same_people_whatever_threads_there_are():
    one, two, other = (
        [one.comparisons.table.to_pylist() for one in pipeline(**more).stream(people(9), QUESTIONS)]
        for more in ({}, {"n_threads": 3}, {"seed": 1})
    )
    assert one == two != other


def test_people_are_made_one_after_the_other_and_none_is_kept():
    taken = 0

    def endless():
        nonlocal taken
        for i in count():
            taken += 1
            yield Persona(f"p{i}", f"likes {TASTES[i % 4]}")

    made = pipeline(recheck=0.0)
    stream = made.stream(endless(), QUESTIONS)
    list(islice(stream, 5))
    assert taken == 5

    def kept():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    for one in islice(stream, 20):
        size = len(one.persona.description) + one.comparisons.table.nbytes
    after_20 = kept()
    for _ in islice(stream, 500):  # so many that what libraries and other tests leave lying about is little beside them
        pass
    after_520 = kept()
    tracemalloc.stop()
    assert after_520 - after_20 < 0.25 * 500 * size


def test_people_are_invented_one_for_each_trait_as_they_are_asked_for():
    asked = []

    def traits():
        for trait in ("a shy baker", "a loud sailor"):
            asked.append(trait)
            yield trait

    found = invented(Writer(), traits())
    assert next(found) == Persona("persona-0000000", "a shy baker")
    assert asked == ["a shy baker"]


def test_bad_settings_are_refused():
    for wrong in ({"n_views": 1}, {"max_similarity": 0.0}, {"recheck": 1.5}, {"max_length_ratio": 0.5}):
        with pytest.raises(SettingsError):
            pipeline(**wrong)
    with pytest.raises(SettingsError, match="writer"):
        Personas([], Judge(), encoder=Words())
