"""`penchant evaluate values`: from checkpoints and a probe file to a table, JSON, a page and a plot per topic."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_model

from penchant.align import Supervised, TrainerSettings, train
from penchant.apps.values import values
from penchant.errors import DataError, SettingsError
from penchant.evaluate import value_probes
from penchant.evaluate.stances import Likelihood, Probe, Probes
from penchant.evaluate.values import topic_values
from penchant.policies import LanguagePolicy

ROWS = [{"topic": t, "prompt": f"{t} {i}?", "polarity": 1 if i % 2 else -1} for t in ("tea", "cats") for i in range(5)]
FACTS = {"2+2?": ("4", "9"), "1+1?": ("2", "7")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base model, a run from it with two checkpoints, and a probe file."""
    folder = tmp_path_factory.mktemp("values")
    name = tiny_model.write(folder / "base")
    policy = LanguagePolicy(name)
    rows = [{"prompt": row["prompt"], "response": "Yes." if row["polarity"] == 1 else "No."} for row in ROWS]
    settings = TrainerSettings(steps=6, examples_per_batch=10, learning_rate=1e-2, save_steps=3, keep_checkpoints=None)
    train(Supervised(per_token=True), policy, rows, settings=settings, folder=folder / "sft", progress=False)
    (folder / "probes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _few_facts(monkeypatch):
    monkeypatch.setattr("penchant.apps.values.FACTS", FACTS)


def test_a_model_and_a_run_become_a_table_a_page_and_a_plot_per_topic(place, tmp_path):
    out = tmp_path / "out"
    found = values((str(place / "base"), str(place / "sft")), probes=place / "probes.jsonl", sharpness=20.0, out=out)
    rows = json.loads((out / "values.json").read_text())
    assert sorted({(row["stage"], row["step"]) for row in rows}) == [("models", 0), ("sft", 3), ("sft", 6)]
    assert {row["topic"] for row in rows} == {"tea", "cats"}
    assert sorted(path.name for path in (out / "plots").iterdir()) == ["cats.svg", "tea.svg"]
    assert "Values over training" in (out / "report.html").read_text()
    probes, reader = Probes.of([Probe(**row) for row in ROWS]), Likelihood(sharpness=20.0)
    before, after = (
        topic_values(reader(LanguagePolicy(str(place / name)), probes), probes) for name in ("base", "sft/policy")
    )
    for t, one in enumerate(found.data["drifts"]):
        moved = [interval["estimate"] for interval in one["magnitude"].values()]
        assert moved == pytest.approx(after[t] - before[t])
        assert np.abs(moved).max() > 0.02
    assert len(found.data["ability"]) == 3
    assert "--mode sampled" in found.text
    json.dumps(found.data)


def test_readings_are_kept_and_not_read_again(place, tmp_path, monkeypatch):
    given = (str(place / "base"), str(place / "sft"))
    first = values(given, probes=place / "probes.jsonl", out=tmp_path, ability=False).data["drifts"]
    monkeypatch.setattr(LanguagePolicy, "log_probabilities", lambda *a, **k: pytest.fail("read again"))
    assert values(given, probes=place / "probes.jsonl", out=tmp_path, ability=False).data["drifts"] == first


def test_sampled_mode_counts_empty_responses_and_has_a_floor_of_sampling(place, tmp_path):
    found = values(
        (str(place / "sft"),),
        probes=place / "probes.jsonl",
        mode="sampled",
        n=2,
        max_new_tokens=6,
        ability=False,
        out=tmp_path,
    )
    assert found.data["responses"] == 2 * 10 * 2
    assert found.data["drifts"][0]["floor"] is not None


def test_repeats_of_the_training_give_the_noise_floor(place, tmp_path):
    given = (str(place / "base"), str(place / "sft"))
    found = values(given, probes=place / "probes.jsonl", repeats=(str(place / "base"),), ability=False, out=tmp_path)
    one = found.data["drifts"][0]
    assert one["floor"] == pytest.approx(one["variation"]["estimate"])  # the repeat is where it started
    assert not one["is_clear"]


def test_another_chat_template_is_held_fixed_and_its_own_part_is_told(place, tmp_path):
    shutil.copytree(place / "base", tmp_path / "other")
    policy = LanguagePolicy(str(tmp_path / "other"))
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    policy.tokenizer.save_pretrained(tmp_path / "other")
    found = values((str(place / "base"), str(tmp_path / "other")), probes=place / "probes.jsonl", out=tmp_path / "out")
    assert all(one["variation"]["estimate"] == 0 for one in found.data["drifts"])
    assert found.data["own_template"][0]["variation"] > 0
    assert "chat template of the first" in found.text


def test_a_checkpoint_of_another_tokenizer_is_refused(place, tmp_path):
    shutil.copytree(place / "base", tmp_path / "other")
    policy = LanguagePolicy(str(tmp_path / "other"))
    policy.tokenizer.add_tokens(["extra"])
    policy.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match="another tokenizer"):
        values((str(place / "base"), str(tmp_path / "other")), probes=place / "probes.jsonl", out=tmp_path / "out")


def test_bad_input_is_found_before_a_model_is_loaded(place, tmp_path, monkeypatch):
    monkeypatch.setattr(LanguagePolicy, "__init__", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(DataError, match="got 1, at least 2"):
        values((str(place / "base"),), probes=place / "probes.jsonl")
    with pytest.raises(DataError, match="got 0"):
        values(())
    with pytest.raises(SettingsError, match="no 'weather'"):
        values(("a", "b"), topics=("weather",))
    for row, message in (
        ({"topic": "t"}, "`topic` and `prompt`"),
        ({"topic": "t", "prompt": "q", "polarity": "x"}, "1 or -1"),
    ):
        (tmp_path / "bad.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(DataError, match=message):
            values(("a", "b"), probes=tmp_path / "bad.jsonl")


def test_the_built_in_facts_have_their_right_answer_first():
    assert next(iter(value_probes.FACTS.values()))[0] == "Four."
