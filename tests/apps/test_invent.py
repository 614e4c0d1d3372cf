import json

import pytest
from test_personas import QUESTIONS, TASTES, Judge, Words, Writer

from penchant.apps import invent
from penchant.apps.batch import batch
from penchant.apps.invent import Invent
from penchant.errors import PenchantError, SettingsError


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(invent, "chat_model", {"writer": Writer(), "judge": Judge()}.get)
    monkeypatch.setattr(invent, "encoder_of", lambda name: Words())


@pytest.fixture
def made(tmp_path):
    (tmp_path / "questions.txt").write_text("\n".join(QUESTIONS) + "\n\n", encoding="utf-8")
    settings = Invent(questions=tmp_path / "questions.txt", writers="writer, writer", judge="judge", recheck=1.0)

    def run(rows, name="out.jsonl", **more):
        (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        outcome = batch("personas", str(tmp_path / "people.jsonl"), out=tmp_path / name, personas=settings, **more)
        return outcome.data, [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]

    return run


PEOPLE = [{"trait": f"likes {taste}"} for taste in TASTES] + [{"description": "likes tea", "user": "ann"}]


def test_people_choose_by_what_is_known_of_them_and_say_that_they_are_synthetic(made):
    data, rows = made(PEOPLE)
    assert {row["user"] for row in rows} == {*(f"persona-{n:07d}" for n in range(4)), "ann"}
    assert all(row["source"] == "synthetic" for row in rows)
    decided = [row for row in rows if json.loads(row["extra"])["label"] == "judge" and row["user"] == "ann"]
    assert decided
    assert all(row["chosen"].startswith("tea") for row in decided)
    assert data["counts"]["people"] == 5


def test_parts_make_the_same_people_as_one_run(made):
    assert made(PEOPLE, "one.jsonl")[1] == made(PEOPLE, "many.jsonl", rows_per_part=2)[1]


def test_a_row_about_nobody_says_so_or_is_dropped_and_counted(made):
    rows = [*PEOPLE[:2], {"trait": None, "age": 3}]
    with pytest.raises(PenchantError, match="neither a `trait` nor a `description`"):
        made(rows, "a.jsonl")
    assert made(rows, "b.jsonl", on_error="drop")[0]["failed"] == 1


def test_questions_that_are_not_there_are_a_clear_error(tmp_path):
    (tmp_path / "none.txt").write_text(" \n", encoding="utf-8")
    for path, message in ((tmp_path / "no.txt", "cannot be read"), (tmp_path / "none.txt", "no questions")):
        with pytest.raises(SettingsError, match=message):
            Invent(questions=path, writers="writer", judge="judge").ready()
