"""The demonstration from end to end, with a small speaker in place of the language model."""

import json
import re

import numpy as np
import pytest

from penchant.apps import demo as demonstration
from penchant.apps import report
from penchant.apps.steering import Spoken, Steered, votes, win_rates
from penchant.errors import DataError
from penchant.people import population
from penchant.statistics import Interval


class Speaker:
    """Answers of many styles, drawn by the seed; longer ones if the system text asks for them."""

    name = "speaker"

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        told = messages[0]["content"] if messages[0]["role"] == "system" else ""
        answers = []
        for i in range(n):
            rng = np.random.default_rng([seed, i, sum(map(ord, messages[-1]["content"]))])
            n_words = int(rng.integers(3, 30)) + 30 * ("longer" in told)
            words = rng.choice(["tea", "you", "maybe", "shop", "bread", "window", "evening"], n_words)
            mark = rng.choice([".", "!", "?"])
            lines = "\n- " if rng.random() < 0.4 else " "
            answers.append(lines.join(words) + str(mark))
        return answers


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demonstration, "chat_model", lambda spec: Speaker())
    return tmp_path


def test_without_a_file_it_measures_real_choices_and_steers_for_simulated_people(small):
    outcome = demonstration.demo(report_file=small / "report.html", people=8, votes_each=24)
    data = json.loads(json.dumps(outcome.data))
    assert data["journeys"]["people"] > 200
    assert data["journeys"]["gain"][1] > 0
    assert data["text"]["simulated"] is True
    against = data["text"]["win_rates"]["for each against plain"]["win_rate"]
    assert against[1] > 0.5, "steering to known tastes must help where answers differ this much"
    page = (small / "report.html").read_text(encoding="utf-8")
    assert "SIMULATED" in page
    assert page.count("<svg") >= 3
    assert not re.findall(r"(?:src|href)=\"https?:", page), "the report fetches nothing"
    assert "for each against plain" in outcome.text or "for each" in outcome.text


def test_a_file_without_people_is_refused_with_what_it_would_need(small):
    path = small / "pairs.jsonl"
    path.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(DataError, match="two people or more"):
        demonstration.demo(path, report_file=small / "r.html")


def test_the_judge_decides_and_ties_are_one_half():
    found = [
        Steered(user, prompt, way, text)
        for user in ("ann", "bob")
        for prompt in ("p", "q")
        for way, text in (("plain", "aa"), ("for all", "aa"), ("for each", "aaaa"), ("in words", "a"))
    ]
    rates = win_rates(found, lambda user, prompts, texts: np.array([len(text) for text in texts], float))
    assert rates["for each", "plain"][0].interval.estimate == 1.0
    assert rates["in words", "plain"][0].interval.estimate == 0.0
    opposite = win_rates(found, lambda user, prompts, texts: np.array([-len(text) for text in texts], float))
    assert opposite["for each", "plain"][1] == {"ann": 0.0, "bob": 0.0}
    assert win_rates(found, lambda user, prompts, texts: np.zeros(len(texts)))["for each", "plain"][0].n_ties == 4


def test_simulated_votes_are_about_the_pool_they_were_shown():
    people = population(3, n_features=1, strength=50.0, spread=0.5, seed=0)
    cast = votes(
        people, ["p"], [["a", "aaa", "aa"]], lambda texts: np.array([[len(t)] for t in texts]), n_each=9, seed=0
    )
    likes_long = {name: taste[0] > 0 for name, taste in zip(people.names, people.tastes, strict=True)}
    for row in cast.table.to_pylist():
        assert (len(row["chosen"]) > len(row["rejected"])) == likes_long[row["user"]]
    with pytest.raises(DataError, match="two different answers"):
        votes(people, ["p"], [["a", "a"]], lambda texts: np.zeros((len(texts), 1)), n_each=1, seed=0)


def test_a_condition_becomes_the_system_text():
    heard = []

    class Listener(Speaker):
        def complete(self, messages, **settings):
            heard.append(messages)
            return super().complete(messages, **settings)

    Spoken(Listener()).sample(["hello"], 2, condition="Be brief.")
    assert [message["role"] for message in heard[0]] == ["system", "user"]
    Spoken(Listener()).sample(["hello"], 2)
    assert [message["role"] for message in heard[1]] == ["user"]


def test_a_report_escapes_what_people_wrote(tmp_path):
    wide = report.Table(("who", "what", "why"), [["ann", "tea", "because " * 20], ["bob", "coffee", "so"]]).text()
    assert max(map(len, wide.splitlines())) <= report.TERMINAL
    assert wide.startswith("ann\n  what: tea\n  why: because because")
    table = report.Table(("who", "what"), [["<script>alert(1)</script>", "a & b"]])
    svg = report.dots(["x"], [Interval(0.5, 0.4, 0.6, 0.95, 3)], axis="share")
    section = report.Section("<b>", ["1 < 2, says `<i>`"], [table], [(svg, "a plot")])
    report.write(tmp_path / "r.html", title="t", lead="l", sections=[section], footer="f")
    page = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in page
    assert "a &amp; b" in page
    assert "1 &lt; 2, says <code>&lt;i&gt;</code>" in page
    assert page.count("<svg") == 1
    assert table.text().splitlines()[0].startswith("who")
