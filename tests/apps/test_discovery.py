"""`penchant evaluate discovery`: a benchmark in, numbers and a report out, the cost before the first call."""

import json

import pytest

from penchant.apps import discovery as command
from penchant.errors import SettingsError, UnknownNameError


class Model:
    """Asks for the length, then gives the answer to a sum."""

    def __init__(self, name):
        self.name, self.calls = name, 0

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        self.calls += 1
        told = " ".join(message["content"] for message in messages)
        if "ACTION: ask" in messages[0]["content"] and len(messages) == 2:
            return ["ACTION: ask\nCONTENT: Should it be short?"]
        return ["It is 4." if "very short" in told else "It is well known to everybody who can count that it is 4."]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n} + {4 - n}?", "answer": "4"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def models(monkeypatch, tmp_path):
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    made = {}

    def chat_model(name):
        if name == "nobody":
            raise UnknownNameError("There is no chat model 'nobody'.")
        return made.setdefault(name, Model(name))

    monkeypatch.setattr(command, "chat_model", chat_model)
    return made


def test_numbers_and_report_come_out_and_a_second_run_asks_nothing(file, models, tmp_path):
    settings = {"model": "one,two", "personas": 3, "pairs": 9, "out": tmp_path / "found"}
    outcome = command.discovery(file, **settings)
    one, two = outcome.data["models"]
    assert one["pairs"] == 9
    assert one["alignment"] == two["alignment"]
    assert one["alignment"]["baseline"] <= one["alignment"]["discovery"] <= one["alignment"]["oracle"]
    assert one["accuracy"] == {"baseline": 1.0, "discovery": 1.0, "oracle": 1.0}
    assert one["questions"] == 1.0
    assert one["missed"]["length"]["share"] == 0.0
    assert json.loads((tmp_path / "found" / command.FOUND).read_text(encoding="utf-8")) == outcome.data
    page = (tmp_path / "found" / command.REPORT).read_text(encoding="utf-8")
    assert "simulated" in page
    assert "<svg" in page
    before = models["one"].calls
    assert command.discovery(file, **settings).data == outcome.data
    assert models["one"].calls == before


def test_the_cost_can_be_had_without_a_call(file, models, tmp_path):
    outcome = command.discovery(file, pairs=5, estimate_only=True, out=tmp_path / "found")
    assert outcome.data["rows"] == 15
    assert outcome.data["calls"] == [5 + 30 + 5, 0, 0]
    assert models["small-chat"].calls == 0
    assert not (tmp_path / "found").exists()


def test_wishes_without_a_rule_need_a_grader_that_reads(file, models, tmp_path):
    levels = ["a", "b", "c", "d", "e"]
    record = {
        "problem_id": "1", "question": "2 + 2?", "answer": "4", "persona_id": "ann",
        "persona_preferences": {"rhyme": {"value": "yes"}},
        "evaluation_rubric": {"evaluation_criteria": [{"preference": "rhyme", "levels": levels, "weight": 1.0}]},
    }  # fmt: skip
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(SettingsError, match="No rule grades 1 of the preferences, such as 'rhyme'"):
        command.discovery(path, out=tmp_path / "found")
    assert command.discovery(path, grader="j", estimate_only=True).data["calls"][2] == 6
    with pytest.raises(UnknownNameError):
        command.discovery(file, model="nobody")
    with pytest.raises(SettingsError, match="at least 1"):
        command.discovery(file, pairs=0)
