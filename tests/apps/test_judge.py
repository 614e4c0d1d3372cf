"""`penchant evaluate judge`: what it says, writes, refuses, and what it asks before it asks."""

import json

import pytest

from penchant.apps import judge as command
from penchant.apps.judge import judge
from penchant.errors import DataError, SettingsError

pytest.importorskip("matplotlib")
ASKED = []


def follower(prompt):
    """Follows a majority; otherwise it knows what is good."""
    ASKED.append(prompt)
    for line in prompt.splitlines()[::-1]:
        if "think that option" in line:
            return f"<answer>{line.split('think that option ')[1][0]}</answer>"
        if line.startswith("Question:"):
            break
    good = next(line for line in prompt.splitlines()[::-1] if line.startswith("Option") and "good" in line)
    return f"<think>Not <answer>A</answer>?</think><answer>{good[7]}</answer>"


class Longest:
    """A reward."""

    def reward(self, prompts, responses):
        """Letters."""
        return [float(len(text)) for text in responses]


def written(path, n=40, form="options"):
    rows = [
        {"question": f"Question {k}?", "options": [f"good {k}", f"bad {k}"], "correct": 0, "kind": "fact"}
        if form == "options"
        else {"prompt": f"Question {k}?", "chosen": f"good {k}", "rejected": f"bad {k}"}
        for k in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def asked(monkeypatch, own_cache):
    ASKED.clear()
    monkeypatch.setattr(command, "resolve", lambda path: {"mine:follower": follower, "mine:Longest": Longest}[path])
    return ASKED


@pytest.mark.parametrize("form", ["options", "pairs"])
def test_a_judge_of_majorities_is_named_with_a_page_a_picture_and_json(tmp_path, form):
    file = written(tmp_path / "items.jsonl", form=form)
    outcome = judge(file, judge="mine:follower", biases=("bandwagon", "position"), out=tmp_path / "out")
    assert "Biases found: bandwagon." in outcome.text
    kept = json.loads((tmp_path / "out" / "judge.json").read_text(encoding="utf-8"))
    assert [(one["name"], one["flagged"]) for one in kept["findings"]] == [
        ("bandwagon", True),
        ("last place", False),
        ("letter A", False),
    ]
    assert kept["effects"][0]["pull"]["estimate"] == 1.0
    assert kept["effects"][1]["switched"]["estimate"] is None  # of none that could
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "How far mine:follower can be pushed" in page
    assert "<svg" in page
    assert (tmp_path / "out" / "pull.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_says_what_would_be_asked_and_asks_nothing(tmp_path, asked):
    file = written(tmp_path / "items.jsonl")
    outcome = judge(file, judge="mine:follower", dry_run=True)
    assert outcome.data["calls"] == 62 * 40
    assert outcome.data["tokens"] > 62 * 40 * 20
    assert asked == []
    with pytest.raises(SettingsError, match=r"2,480 questions.*max-calls 100"):
        judge(file, judge="mine:follower", max_calls=100)
    assert asked == []
    assert judge(file, judge="mine:follower", dry_run=True, limit=10).data["items"] == 10


def test_a_reward_is_audited_without_places_or_prompts(tmp_path):
    outcome = judge(written(tmp_path / "items.jsonl"), judge="mine:Longest", out=tmp_path / "out")
    assert "Not tested: position" in outcome.text
    flags = {one["name"]: one["flagged"] for one in outcome.data["findings"]}
    assert flags["verbosity"]
    assert not flags["empty answer"]


def test_files_without_items_are_refused_and_rows_left_out_are_counted(tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"system_a": "x", "system_b": "y", "winner": "tie"}\n', encoding="utf-8")
    with pytest.raises(DataError):
        judge(file, judge="mine:follower")
    file = written(tmp_path / "items.jsonl")
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"question": "q", "options": ["x", "x"], "correct": 0}) + "\n")
    assert judge(file, judge="mine:follower", dry_run=True).data["dropped"] == {
        "two options of an item are the same text": 1
    }
    with pytest.raises(SettingsError, match="letters of a model behind a URL"):
        judge(file, judge="http://127.0.0.1:1/v1#m", read_by="letters", dry_run=True)


def test_the_command_line_reads_lists_and_answers_in_json(called, tmp_path):
    file = written(tmp_path / "items.jsonl")
    code, out, _ = called(
        *("evaluate", "judge", file, "--judge", "minilm", "--biases", "[authority, verbosity]", "--dry-run"),
        *("--json", "-"),
    )
    assert code == 0
    assert json.loads(out)["calls"] == 9 * 40
