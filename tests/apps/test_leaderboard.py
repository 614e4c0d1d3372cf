"""Leaderboards by command: what scripts read, each part on request, a page to look at, and files without votes."""

import json

import numpy as np
import pytest
from scipy.special import expit

from penchant.apps.leaderboard import leaderboard
from penchant.errors import DataError


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def votes(n=600, *, texts=False, lengths=False):
    """Of 30 people on four systems, of which the worse ones talk more."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        a, b = (int(one) for one in rng.choice(4, 2, replace=False))
        words = [int(rng.integers(2, 12)) + 2 * a, int(rng.integers(2, 12)) + 2 * b]
        wins = rng.random() < expit(0.4 * (b - a) + 1.2 * (words[0] - words[1]) / sum(words))
        winner = (
            "tie" if rng.random() < 0.1 else "both_bad" if rng.random() < 0.05 else "model_a" if wins else "model_b"
        )
        row = {"model_a": f"s{a}", "model_b": f"s{b}", "winner": winner, "judge": f"u{number % 30}"}
        if texts:
            row |= {"question": f"q{number}", "answer_a": "word " * words[0], "answer_b": "other " * words[1]}
        if lengths:
            row |= {"length_a": words[0], "length_b": words[1]}
        rows.append(row)
    return rows


def test_a_leaderboard_has_a_row_for_each_system_and_says_what_it_left_out(tmp_path):
    votes = [
        {"model_a": "x", "model_b": "y", "winner": winner}
        for winner in ["model_a"] * 6 + ["model_b"] * 3 + ["tie"] * 2 + ["both_bad"]
    ]
    itself = {"model_a": "x", "model_b": "x", "winner": "tie"}
    outcome = leaderboard(written(tmp_path / "votes.jsonl", [*votes, itself]))
    first, second = outcome.data["systems"]
    assert list(first) == ["system", "score", "ci_low", "ci_high", "votes"]
    assert (first["system"], second["system"]) == ("x", "y")
    assert first["votes"] == second["votes"] == 11
    assert first["score"] - second["score"] == pytest.approx(400 / np.log(10) * np.log(7 / 4), abs=1e-6)
    assert first["ci_low"] < first["score"] < first["ci_high"]
    assert outcome.data["both_bad"] == 1
    assert outcome.data["both_bad_rates"] == pytest.approx({"x": 1 / 12, "y": 1 / 12})
    assert sum(outcome.data["dropped"].values()) == 1
    with pytest.raises(DataError, match="1 comparison records"):
        leaderboard(written(tmp_path / "pairs.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}]))
    with pytest.raises(DataError, match="are the same"):
        leaderboard(written(tmp_path / "itself.jsonl", [itself]))


def test_each_part_comes_on_request_as_text_and_for_scripts(tmp_path):
    path = written(tmp_path / "votes.jsonl", votes(lengths=True))
    plain = leaderboard(path)
    assert not {"style", "fragility", "suspects"} & set(plain.data)
    assert plain.data["intervals"] == "sandwich over people"
    full = leaderboard(
        path, bootstrap=200, anytime=True, style=True, fragility=True, suspects=True, page=tmp_path / "board.html"
    )
    json.dumps(full.data)  # plain values
    assert full.data["intervals"] == "bootstrap over people"
    assert [row["system"] for row in full.data["ranks"]] == [row["system"] for row in full.data["systems"]]
    assert [row["score"] for row in full.data["systems"]] == [row["score"] for row in plain.data["systems"]]
    assert full.data["systems"][0]["ci_low"] != plain.data["systems"][0]["ci_low"]
    effect = full.data["style"]["effects"]["length"]
    assert effect["low"] > 0  # planted
    assert len(full.data["fragility"]["neighbours"]) == 3
    assert full.data["fragility"]["first"]["n_votes"] >= 1
    assert full.data["suspects"]["tested"] == 30
    for words in (
        "at every time one looks",
        "Responses alike in style",
        "Fragility",
        "Votes that stand out",
        "both bad",
    ):
        assert words in full.text
    page = (tmp_path / "board.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "How often the row beat the column" in page
    assert "<script" not in page


def test_places_that_hold_at_all_times_are_never_narrower(tmp_path):
    path = written(tmp_path / "votes.jsonl", votes())
    once, always = leaderboard(path).data["ranks"], leaderboard(path, anytime=True).data["ranks"]
    for one, other in zip(once, always, strict=True):
        assert other["best"] <= one["best"] <= one["worst"] <= other["worst"]


def test_style_is_read_from_the_answers_themselves_and_missed_where_there_is_nothing(tmp_path):
    found = leaderboard(written(tmp_path / "texts.jsonl", votes(texts=True)), style=True)
    assert list(found.data["style"]["effects"]) == ["words"]
    assert found.data["style"]["effects"]["words"]["low"] > 0
    with pytest.raises(DataError, match="says how its two responses look"):
        leaderboard(written(tmp_path / "bare.jsonl", votes(50)), style=True)


def test_nobody_counts_for_more_than_asked_for_in_any_part_and_it_is_said(tmp_path):
    often = [{"model_a": "s3", "model_b": f"s{k % 3}", "winner": "model_a", "judge": "often"} for k in range(900)]
    lengths = {"length_a": 5, "length_b": 6}
    file = written(tmp_path / "votes.jsonl", [*votes(lengths=True), *(row | lengths for row in often)])
    plain = leaderboard(file, style=True).data
    outcome = leaderboard(file, per_person=20, style=True, suspects=True, fragility=True, bootstrap=200)
    data = outcome.data
    assert plain["systems"][0]["system"] == plain["style"]["with_style"][0]["system"] == "s3"
    assert data["systems"][-1]["system"] == "s3"
    assert data["style"]["with_style"][-1]["system"] == "s3"
    for one, other in zip(data["systems"], data["style"]["with_style"], strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert sum(row["votes"] for row in data["systems"]) == 2 * (600 - data["both_bad"] + 900)
    assert (data["per_person"], data["capped"]) == (20, 1)
    assert "Nobody counts for more than 20 votes: 1 of 31 people cast more" in outcome.text
    nameless = written(tmp_path / "nameless.jsonl", [{**row, "judge": None} for row in votes(50)])
    with pytest.raises(DataError, match="names its person"):
        leaderboard(nameless, per_person=20)
