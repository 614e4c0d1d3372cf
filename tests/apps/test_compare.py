"""All models on the same choices: what is claimed of each follows from what it predicted, and can be against it."""

import json
import sys

import numpy as np
import pytest

from penchant import cli
from penchant.apps import compare
from penchant.apps.compare import BY_FEATURES, PER_USER, POOLED, candidates, compare_models, plot, tables
from penchant.encoders import Attributes
from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.evaluate.held_out import known_and_new
from penchant.methods import METHODS
from penchant.people import population
from penchant.preference import PreferenceModel
from penchant.records import Comparisons, canonical_json

COLUMNS = {
    "model",
    "split",
    "examples",
    "accuracy",
    "ci_low",
    "ci_high",
    "log_loss",
    "ece",
    "fit_seconds",
    "bytes_per_user",
    "adapt_ms",
    "share_worse",
}


def votes(kind="groups", *, n_people=40, n_each=40, seed=0):
    """Simulated people whose tastes are known."""
    people = population(n_people, n_features=3, kind=kind, n_groups=2, strength=4.0, spread=3.0, seed=seed)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_each):
        for person, name in enumerate(people.names):
            sides = rng.standard_normal((2, 3)).round(3)
            if not people.prefers_first(person, sides[:1], sides[1:], rng)[0]:
                sides = sides[::-1]
            chosen, rejected = (canonical_json({f"x{k}": float(v) for k, v in enumerate(side)}) for side in sides)
            rows.append({"prompt": "", "chosen": chosen, "rejected": rejected, "user": name})
    return Comparisons.from_rows(rows), people


def compared(comparisons, folder, names=PER_USER, seeds=2, **settings):
    return compare_models(
        comparisons, {"comparison"}, Attributes(), names=names, seeds=seeds, folder=folder, **settings
    )


def row_of(rows, model, split, examples):
    [row] = [row for row in rows if (row["model"], row["split"], row["examples"]) == (model, split, examples)]
    return row


@pytest.fixture(scope="module")
def diverse(tmp_path_factory):
    return compared(votes()[0], tmp_path_factory.mktemp("comparison"))


def test_every_row_has_what_scripts_rely_on(diverse):
    assert all(row.keys() >= COLUMNS for row in diverse.rows)
    found = {(row["model"], row["split"], row["examples"]) for row in diverse.rows}
    unseen = {(model, "unseen", n) for model in (POOLED, PER_USER) for n in (1, 2, 4, 8, 16)}
    assert unseen < found
    assert {(model, split) for model, split, _ in found - unseen} == {(POOLED, "seen"), (PER_USER, "seen")}
    json.dumps(diverse.rows)


def test_where_people_differ_their_own_models_win_and_more_so_with_more_examples(diverse):
    accuracy = [row_of(diverse.rows, PER_USER, "unseen", n)["accuracy"] for n in (1, 4, 16)]
    assert accuracy == sorted(accuracy)
    sixteen, pooled = (row_of(diverse.rows, model, "unseen", 16) for model in (PER_USER, POOLED))
    assert sixteen["gain"][1] > 0.05
    assert sixteen["accuracy"] - pooled["accuracy"] == pytest.approx(sixteen["gain"][0])
    assert sixteen["log_loss"] < pooled["log_loss"]
    assert sixteen["ci_low"] < sixteen["accuracy"] < sixteen["ci_high"]


def test_one_model_for_all_is_the_same_at_every_number_of_examples_and_costs_nothing_per_person(diverse):
    rows = [row for row in diverse.rows if row["model"] == POOLED and row["split"] == "unseen"]
    assert len({(row["accuracy"], row["log_loss"], row["ece"]) for row in rows}) == 1
    assert {(row["share_worse"], row["bytes_per_user"], row["adapt_ms"]) for row in rows} == {(0.0, 0.0, 0.0)}
    own = row_of(diverse.rows, PER_USER, "unseen", 8)
    assert 3 * 8 * 2 <= own["bytes_per_user"] < 500  # weights and their errors in three dimensions, and a name
    assert own["adapt_ms"] > 0


def test_where_people_are_alike_nobody_pays_for_models_of_their_own(tmp_path):
    comparisons, people = votes("alike")

    def truth(held_out):
        """The true probability of every choice, so that what is measured is not a draw from it."""
        sides = [
            np.array([list(json.loads(text).values()) for text in held_out.table[side].to_pylist()])
            for side in ("chosen", "rejected")
        ]
        return 1 / (1 + np.exp(-(sides[0] - sides[1]) @ people.tastes[0]))

    found = compared(comparisons, tmp_path, held_out_truth=truth)
    for row in found.rows:
        assert row["gain"][0] > -0.005, row


def test_finished_models_are_kept_and_only_for_the_same_data(tmp_path, monkeypatch):
    fitted = []
    real = compare.predicted

    def counting(candidate, *rest):
        fitted.append(candidate.name)
        return real(candidate, *rest)

    monkeypatch.setattr(compare, "predicted", counting)
    comparisons, _ = votes(n_people=12, n_each=12)
    first = compared(comparisons, tmp_path)
    assert fitted == [POOLED] * 2 + [PER_USER] * 2
    again = compared(comparisons, tmp_path)
    assert len(fitted) == 4
    assert again.rows == first.rows
    (tmp_path / "finished" / f"{PER_USER}-seed1.safetensors").write_bytes(b"cut short")
    compared(comparisons, tmp_path)
    assert fitted[4:] == [PER_USER]
    compared(comparisons.take(range(len(comparisons) - 1)), tmp_path)
    assert len(fitted) == 9


def test_a_comparison_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    real, calls = compare.predicted, []

    def stopping(candidate, *rest):
        calls.append(candidate.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(candidate, *rest)

    monkeypatch.setattr(compare, "predicted", stopping)
    comparisons, _ = votes(n_people=12, n_each=12)
    with pytest.raises(KeyboardInterrupt):
        compared(comparisons, tmp_path)
    compared(comparisons, tmp_path)
    assert calls == [POOLED, POOLED, PER_USER, PER_USER, PER_USER]


def test_a_model_that_cannot_learn_from_such_data_is_left_out_with_the_reason(tmp_path):
    found = compared(votes(n_people=12, n_each=12)[0], tmp_path, names=f"directional,{BY_FEATURES},dpo,{PER_USER}")
    assert {row["model"] for row in found.rows} == {POOLED, PER_USER}
    assert "measure" in found.left_out["directional"]
    assert "nothing is known of the people" in found.left_out[BY_FEATURES]
    assert "does not learn from comparisons" in found.left_out["dpo"]


def test_what_is_known_of_people_helps_where_it_tells_them_apart(tmp_path):
    comparisons, people = votes(n_each=20)
    known = {
        name: {"club": "red" if group else "blue"} for name, group in zip(people.names, people.groups, strict=True)
    }
    found = compared(comparisons, tmp_path, names=BY_FEATURES, features=known)
    assert row_of(found.rows, BY_FEATURES, "unseen", 1)["gain"][1] > 0.05
    rng = np.random.default_rng(0)
    idle = {name: {"club": str(rng.integers(2))} for name in people.names}
    found = compared(comparisons, tmp_path / "idle", names=BY_FEATURES, features=idle)
    assert row_of(found.rows, BY_FEATURES, "unseen", 1)["gain"][0] > -0.02


def test_all_means_every_model_of_the_table_that_learns_from_comparisons():
    models, left_out = candidates("all", {"ann": {"age": 30}})
    room = {row.name for row in METHODS if row.room == "learn"}
    learning = {
        row.name
        for row in METHODS
        if row.name in room and isinstance(row.resolve(), type) and issubclass(row.resolve(), PreferenceModel)
    }
    names = [model.name for model in models]
    assert names[:3] == [POOLED, PER_USER, BY_FEATURES]
    assert set(names) | set(left_out) == room | {PER_USER, BY_FEATURES}
    assert learning - set(names) <= set(left_out)
    with pytest.raises(UnknownNameError, match="bradley_terry"):
        candidates("bradly_terry", {})


def test_models_are_asked_for_nothing_that_they_were_shown(tmp_path, monkeypatch):
    shown, asked = set(), set()

    class Spy(compare.BradleyTerry):
        def fit(self, comparisons):
            shown.update(comparisons.table["chosen"].to_pylist())
            return super().fit(comparisons)

        def adapt_each(self, comparisons):
            shown.update(comparisons.table["chosen"].to_pylist())
            return super().adapt_each(comparisons)

        def probability(self, comparisons):
            asked.update(comparisons.table["chosen"].to_pylist())
            return super().probability(comparisons)

    spy = compare.Candidate("spy", lambda encoder, seed: Spy(encoder=encoder), True, "")
    part = known_and_new(votes()[0], ["comparison"], seed=0)
    compare.predicted(spy, Attributes(), part, None, 0)
    assert shown
    assert asked
    assert not shown & asked


def test_the_table_and_the_plot_name_every_model(diverse):
    text = "".join(one.text() for one in tables(diverse.rows, diverse.full))
    svg = plot(diverse.rows)
    for name in (POOLED, PER_USER):
        assert name in text
        assert name in svg
    assert svg.startswith("<svg")


def test_a_comparison_of_few_people_says_that_nobody_unseen_was_measured(tmp_path):
    found = compared(votes(n_people=3)[0], tmp_path, seeds=1)
    assert {row["split"] for row in found.rows} == {"seen"}
    assert any("3 people are too few" in note for note in found.notes)
    with pytest.raises(SettingsError, match="at least 1 seed"):
        compared(votes(n_people=3)[0], tmp_path, seeds=0)


def test_the_command_ends_with_the_line_that_scripts_read(tmp_path, own_cache, monkeypatch, capsys):
    comparisons, people = votes(n_people=12, n_each=12)
    rows = comparisons.table.select(["prompt", "chosen", "rejected", "user"]).to_pylist()
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = [{"user": name, "group": f"g{group}"} for name, group in zip(people.names, people.groups, strict=True)]
    (tmp_path / "users.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    monkeypatch.chdir(tmp_path)
    words = [
        "learn",
        "--compare",
        f"{PER_USER},{BY_FEATURES},directional",
        "votes.jsonl",
        "--seeds",
        "1",
        "--json",
        "-",
    ]
    monkeypatch.setattr(sys, "argv", ["penchant", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    line = json.loads(shown.out.splitlines()[-1])
    assert {row["model"] for row in line["rows"]} == {POOLED, PER_USER, BY_FEATURES}
    assert line["encoder"] == "attributes"
    assert [one["model"] for one in line["not_applicable"]] == ["directional"]
    assert (tmp_path / "comparison" / "comparison.svg").exists()
    assert "not compared: directional" in shown.err


def test_choices_of_one_person_are_refused_before_anything_is_learnt(tmp_path):
    with pytest.raises(DataError, match=r"are by 'person-0+': who gains .* two people at least"):
        compare_models(votes(n_people=1)[0], {"comparison"}, Attributes(), folder=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
