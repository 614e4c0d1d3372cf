"""`penchant evaluate dissect`: planted tastes are found, what cannot be told is said, what is written reads back."""

import json
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from penchant.apps import dissect as command
from penchant.apps.dissect import dissect
from penchant.errors import DataError, SettingsError
from penchant.evaluate.dissect import dissection
from penchant.evaluate.properties import IN_CODE, PROPERTIES, SCORED
from penchant.evaluate.two_orders import QUESTION
from penchant.feedback.importing import read

pytest.importorskip("matplotlib")
WORDS = ["lamp", "table", "river", "stone", "paper", "window", "garden", "cloud", "bridge", "forest", "candle"]
POLITE_NOT_LOUD = {"polite": 2.5, "exclamations": -2.5}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(command, "dissection", partial(dissection, n_draws=300, n_warmup=200))


def response(rng):
    """A response, and which of three properties it has; its length varies and means nothing."""
    has = {name: bool(rng.random() < 0.5) for name in ("polite", "exclamations", "hedging")}
    plain = " ".join(rng.choice(WORDS, rng.integers(10, 50)))
    return f"{plain}{' thank you' * has['polite']}{' maybe' * has['hedging']}{'!' * has['exclamations']}", has


def votes(n, tastes, seed=0, **columns):
    """Rows in which somebody of these tastes chose."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(n):
        (one, has), (other, lacks) = response(rng), response(rng)
        logit = sum(weight * (float(has[name]) - float(lacks[name])) for name, weight in tastes.items())
        chosen, rejected = (one, other) if rng.random() < 1 / (1 + np.exp(-logit)) else (other, one)
        rows.append({"prompt": f"Say {seed} {row}.", "chosen": chosen, "rejected": rejected} | columns)
    return rows


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def weights(outcome, place=0):
    return outcome.data["dissections"][place]["weights"]


def test_planted_tastes_are_at_both_ends_with_intervals_clear_of_zero(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "votes.jsonl", votes(250, POLITE_NOT_LOUD))
    outcome = dissect(file, folds=4, out=Path("out"))
    found = weights(outcome)
    ranked = sorted(found, key=lambda name: -found[name]["weight"])
    assert (ranked[0], ranked[-1]) == ("polite", "exclamations")
    assert found["polite"]["low"] > 0.5
    assert found["exclamations"]["high"] < -0.5
    for name in ("hedging", "lengthy"):
        assert found[name]["low"] < 0 < found[name]["high"]
    assert found["polite"]["preferred"] == pytest.approx(1 / (1 + np.exp(-found["polite"]["weight"])))
    one = outcome.data["dissections"][0]
    assert one["accuracy"][1] > max(one["baselines"][name] for name in ("majority", "length alone"))
    assert json.loads((tmp_path / "out" / "dissection.json").read_text(encoding="utf-8")) == outcome.data
    assert set(found) == set(IN_CODE)
    assert outcome.text.startswith("everybody: 250 decided pairs\n")
    polite = next(line for line in outcome.text.splitlines() if line.strip().startswith("polite"))
    assert f"{found['polite']['weight']:+.2f} [{found['polite']['low']:+.2f}" in polite
    assert polite.endswith("yes")
    hedging = next(line for line in outcome.text.splitlines() if line.strip().startswith("hedging"))
    assert not hedging.endswith("yes")
    assert "not identified, because no pairs differ in it both ways" in outcome.text
    assert max(map(len, outcome.text.splitlines())) <= 110
    assert outcome.data["similarity"] is None


def test_judges_and_kinds_of_requests_are_told_apart_and_drawn_side_by_side(tmp_path):
    rows = []
    for number, (judge, sign) in enumerate({"ann": 1, "bob": 1, "cem": -1}.items()):
        tastes = {name: sign * weight for name, weight in POLITE_NOT_LOUD.items()}
        for seed, kind in enumerate(("code", "talk"), start=2 * number):
            rows += votes(80, tastes, seed=seed, user=judge, aspect=kind)
    rows += votes(60, POLITE_NOT_LOUD, seed=90, user="dora", aspect="code")  # none of talk: not on the map
    rows += votes(3, POLITE_NOT_LOUD, seed=91, user="eve", aspect="talk")  # too few
    rows += votes(60, POLITE_NOT_LOUD, seed=92, aspect="talk")  # nobody knows whose
    for row in rows[-60:]:
        row["user"] = None
    file = written(tmp_path / "votes.jsonl", rows)
    out = tmp_path / "out"
    outcome = dissect(file, judge="user", scenario="aspect", folds=4, out=out)
    told = {(one["judge"], one["scenario"]): one["weights"]["polite"]["weight"] for one in outcome.data["dissections"]}
    assert set(told) == {
        *((judge, kind) for judge in ("ann", "bob", "cem") for kind in ("code", "talk")),
        ("dora", "code"),
        ("not said", "talk"),
    }
    assert all((weight > 0) == (judge != "cem") for (judge, _), weight in told.items())
    assert set(outcome.data["skipped"]) == {"eve / talk"}
    assert "left out: eve, talk: 3 prompts or pairs do not fill 4 folds" in outcome.text
    alike = outcome.data["similarity"]
    assert (alike["judges"], alike["scenarios"]) == (["ann", "bob", "cem"], ["code", "talk"])
    matrix = np.array(alike["matrix"])
    assert matrix[0, 1] > 0.5 > -0.5 > matrix[0, 2]
    assert "without dora, not said, not found in every kind of request" in outcome.text
    drawn = ET.parse(out / "similarity.svg")
    shown = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"ann", "bob", "cem", f"{matrix[0, 2]:.2f}"} <= shown
    taught = outcome.data["taught"]
    n_code = sum(row["aspect"] == "code" for row in rows)
    assert taught["kept"] + taught["ambiguous"] == n_code, "what ann weighs in code says nothing of talk"
    assert "To push ann, code:" in outcome.text
    dissect(written(file, rows[:80]), folds=4, out=out)
    assert not (out / "similarity.svg").exists(), "an earlier run's map would be taken for this one's"


def test_training_pairs_read_back_as_what_the_judge_is_predicted_to_say_and_its_opposite(tmp_path):
    rows = votes(150, POLITE_NOT_LOUD)
    rows[0] |= {
        "prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}],
        "chosen": [{"role": "assistant", "content": "thank you lamp stone"}],
        "rejected": [{"role": "assistant", "content": "river cloud!"}],
    }
    rows[1] |= {"context": "A lesson.", "chosen": "river!", "rejected": "thank you river"}  # as it is not predicted
    rows += rows[1:20]  # asked twice
    file = written(tmp_path / "votes.jsonl", rows)
    outcome = dissect(file, folds=4, out=tmp_path / "out")
    towards, against = (
        read(tmp_path / "out" / f"{name}.jsonl").records["comparison"].table.to_pylist()
        for name in ("towards", "against")
    )
    assert len(towards) == outcome.data["taught"]["kept"] < 150
    assert outcome.data["taught"]["ambiguous"] == 150 - len(towards)
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in towards] == [
        (row["prompt"], row["rejected"], row["chosen"]) for row in against
    ]
    [messages] = [row for row in towards if row["form"] == "messages"]
    assert json.loads(messages["prompt"])[1]["content"] == "Yes?"
    assert "thank you" in messages["chosen"]
    [lesson] = [row for row in towards if row["context"] == "A lesson."]
    assert (lesson["chosen"], lesson["rejected"]) == ("thank you river", "river!")
    score = [row["chosen"].count("thank") - row["rejected"].count("thank") for row in towards]
    assert np.mean(score) > 0.5
    assert "tell a policy: “Let your answer be above all, and plainly: polite.”" in outcome.text
    assert "train it on" in outcome.text
    noise = written(tmp_path / "noise.jsonl", votes(60, {}, seed=3))
    none = dissect(noise, folds=4, out=tmp_path / "out")
    assert none.data["taught"]["kept"] == 0
    assert not (tmp_path / "out" / "towards.jsonl").exists(), "an earlier run's pairs would be taken for this one's"
    assert "To push" not in none.text


def test_a_context_that_is_the_kind_of_request_is_no_part_of_what_was_asked(tmp_path, scripted):
    file = written(tmp_path / "votes.jsonl", votes(60, POLITE_NOT_LOUD, context="lesson"))
    for scenario, is_asked in (("context", False), ("none", True)):
        outcome = dissect(file, scenario=scenario, chat="scripted", folds=4, out=tmp_path / scenario)
        assert outcome.data["dissections"][0]["scenario"] == ("all requests" if is_asked else "lesson")
        [taught] = read(tmp_path / scenario / "towards.jsonl").records.values()
        assert set(taught.table["context"].to_pylist()) == ({"lesson"} if is_asked else {None})
        assert {"lesson" in text for text in scripted.asked} == {is_asked}
        scripted.asked.clear()


def test_explanations_add_up_and_are_of_the_judge_that_is_named(tmp_path):
    rows = votes(60, POLITE_NOT_LOUD, seed=1, user="zoe") + votes(60, POLITE_NOT_LOUD, user="ann")
    file = written(tmp_path / "votes.jsonl", rows)
    outcome = dissect(file, judge="user", folds=4, explain=2, out=tmp_path / "out")
    lines = outcome.text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("How likely ann"))
    said = " ".join(lines[start + 1 : start + 5])
    assert said.count("logits: ") == 2
    chosen = [row["chosen"][:30] for row in rows if row["user"] == "ann"][:2]
    assert all(text in said for text in chosen)
    share, logit = (float(said.split(mark)[1].split()[0]) for mark in ("”: ", "%; "))
    assert share == pytest.approx(100 / (1 + np.exp(-logit)), abs=0.6)
    none = dissect(file, judge="user", folds=4, explain=0, out=tmp_path / "out")
    assert "How likely ann" not in none.text


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    file = written(tmp_path / "votes.jsonl", votes(60, POLITE_NOT_LOUD))
    one, same, other = (dissect(file, folds=4, seed=seed, out=tmp_path / "out").data for seed in (1, 1, 2))
    assert one == same
    assert one["dissections"][0]["weights"] != other["dissections"][0]["weights"]
    strong = [found["dissections"][0]["weights"]["polite"]["weight"] for found in (one, other)]
    assert strong[0] == pytest.approx(strong[1], abs=0.15), "which response is the first is drawn, and means nothing"


def test_ties_are_counted_and_tell_nothing(tmp_path):
    rows = votes(60, POLITE_NOT_LOUD)
    rows += [row | {"strength": 0.5, "prompt": f"tie {n}"} for n, row in enumerate(votes(40, {}, seed=2))]
    outcome = dissect(written(tmp_path / "votes.jsonl", rows), folds=4, out=tmp_path / "out")
    assert (outcome.data["dissections"][0]["pairs"], outcome.data["dissections"][0]["ties"]) == (60, 40)
    assert "60 decided pairs and 40 ties, left out" in outcome.text
    with pytest.raises(DataError, match="Nothing can be told of any judge: All 0 decided labels"):
        dissect(written(tmp_path / "ties.jsonl", rows[60:]), folds=4, out=tmp_path / "out")


def test_a_vote_for_the_rejected_is_a_vote_against_the_chosen(tmp_path):
    rows = votes(60, POLITE_NOT_LOUD)
    one = dissect(written(tmp_path / "votes.jsonl", rows), folds=4, out=tmp_path / "out")
    turned = written(tmp_path / "turned.jsonl", [row | {"strength": 0.0} for row in rows])
    other = dissect(turned, folds=4, out=tmp_path / "out")
    for name in POLITE_NOT_LOUD:
        assert weights(one)[name]["weight"] == pytest.approx(-weights(other)[name]["weight"], abs=0.1)


def test_files_that_tell_nothing_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match="gives no comparisons of texts"):
        dissect(written(tmp_path / "empty.jsonl", []), out=tmp_path / "out")
    few = written(tmp_path / "few.jsonl", votes(6, POLITE_NOT_LOUD))
    with pytest.raises(DataError, match="do not fill 10 folds"):
        dissect(few, out=tmp_path / "out")
    with pytest.raises(SettingsError, match="at least 2"):
        dissect(few, folds=1, out=tmp_path / "out")
    alike = [{"prompt": f"{n}?", "chosen": f"lamp {n % 9}", "rejected": f"sofa {n % 9}"} for n in range(40)]
    with pytest.raises(DataError, match="differs both ways"):
        dissect(written(tmp_path / "alike.jsonl", alike), folds=4, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Scripted:
    """Describes by what it reads; in answer to some responses it talks, and others it cannot check."""

    name = "scripted"

    def __init__(self):
        self.asked = []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        text = messages[-1]["content"]
        self.asked.append(text)
        if text.startswith("Read this prompt"):
            empty = {"constraints": [], "stances": [], "mistakes": []}
            return [json.dumps({"intent_is_clear": True, "expresses_feelings": False} | empty)]
        answer = text.split("Response:\n")[-1]
        if "what?" in answer:
            return ["I would rather talk."]
        basic = dict.fromkeys(SCORED, 1) | {"polite": 3 * ("thank" in answer), "novel": 3 * ("maybe" in answer)}
        errors = [{"what": "loud", "severity": "severe"}] * ("!" in answer)
        return [json.dumps({"basic": basic, "accuracy_can_be_checked": "opinion" not in answer, "errors": errors})]


@pytest.fixture
def scripted(monkeypatch, own_cache):
    chat = Scripted()
    monkeypatch.setattr(command, "chat_model", lambda name: chat)
    return chat


def test_a_chat_model_describes_after_the_cost_is_told_and_is_asked_nothing_twice(tmp_path, scripted, capsys):
    rows = votes(80, POLITE_NOT_LOUD)
    rows[0]["chosen"] += " what?"
    rows[1]["rejected"] += " opinion"
    file = written(tmp_path / "votes.jsonl", rows)
    outcome = dissect(file, chat="scripted", folds=4, out=tmp_path / "out")
    told = capsys.readouterr().err
    assert "scripted will be asked 240 times at least" in told
    assert "80/80" in told
    found = weights(outcome)
    assert tuple(found) == PROPERTIES
    assert found["polite"]["low"] > 0
    assert found["no severe errors"]["low"] > 0
    assert found["novel"]["low"] < 0 < found["novel"]["high"]
    assert not found["funny"]["identified"]
    assert outcome.data["dropped"] == {
        "the chat model gave no description that fits": 1,
        "the accuracy of a response cannot be checked": 1,
    }
    assert outcome.data["dissections"][0]["pairs"] == 78
    assert "dropped 1: the chat model gave no description that fits" in outcome.text
    asked = len(scripted.asked)
    assert asked == 240 + 3, "one answer that never fits is asked for four times"
    again = dissect(file, chat="scripted", folds=4, out=tmp_path / "out")
    assert again.data == outcome.data
    assert len(scripted.asked) == asked


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, scripted, monkeypatch):
    file = written(tmp_path / "votes.jsonl", votes(60, POLITE_NOT_LOUD))
    complete, stop_at = scripted.complete, 70

    def stopping(messages, **settings):
        if len(scripted.asked) == stop_at:
            raise KeyboardInterrupt
        return complete(messages, **settings)

    monkeypatch.setattr(scripted, "complete", stopping)
    with pytest.raises(KeyboardInterrupt):
        dissect(file, chat="scripted", folds=4, out=tmp_path / "out")
    monkeypatch.setattr(scripted, "complete", complete)
    outcome = dissect(file, chat="scripted", folds=4, out=tmp_path / "out")
    assert len(scripted.asked) == 3 * 60
    assert outcome.data["dissections"][0]["pairs"] == 60


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model that knows nothing and to which " A" and " B" are one token each."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = tiny_model.write(tmp_path_factory.mktemp("tiny"), context=900)
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)
    tokenizer.add_tokens([" A", " B"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.save_pretrained(name)
    model.save_pretrained(name)
    return name


def test_a_language_model_judges_the_same_pairs_in_both_orders(tmp_path, tiny, own_cache, monkeypatch):
    rows = votes(60, POLITE_NOT_LOUD)
    rows[0]["prompt"] = "Say it at length. " * 60  # too long for its context, and for nobody else
    file = written(tmp_path / "votes.jsonl", rows)
    outcome = dissect(file, model=tiny, folds=4, out=tmp_path / "out")
    told = {one["judge"]: one for one in outcome.data["dissections"]}
    assert set(told) == {"everybody", tiny}
    assert (told["everybody"]["pairs"], told[tiny]["pairs"] + told[tiny]["ties"]) == (60, 59)
    assert outcome.data["dropped"] == {f"too long for the context of {tiny}, which does not judge it": 1}
    said = outcome.data["judged_by_model"]
    assert 0 < said["mass"] < 0.5, "it knows nothing of A and B"
    assert 0 < said["position"] < 1
    assert f"{tiny}: {100 * said['mass']:.1f} % of its probability is on A or B" in outcome.text
    taught = outcome.data["taught"]
    assert taught["kept"] + taught["ambiguous"] == 60, "each pair is taught once, whoever judged it"

    from penchant.policies import LanguagePolicy, log_probabilities, options

    policy = LanguagePolicy(tiny)
    row = rows[5]
    ways = [
        options.option_log_probabilities(
            policy, [QUESTION.format(prompt=row["prompt"], first=a, second=b)], command.OPTIONS, opening=command.OPENING
        )[0]
        for a, b in ((row["chosen"], row["rejected"]), (row["rejected"], row["chosen"]))
    ]
    prefers = np.exp(ways[0][0]) + np.exp(ways[1][1]) > np.exp(ways[0][1]) + np.exp(ways[1][0])
    pairs = command._pairs(read(file).records["comparison"], "none", "none", 0)
    pairs = command._described(pairs, "", {}, 0)
    monkeypatch.setattr(log_probabilities, "token_log_probabilities", lambda *a: pytest.fail("computed again"))
    both, _ = command._with_model(pairs, tiny, {})
    place = 60 + 5 - 1
    assert (both.places[place], both.who[place][0]) == (5, tiny)
    assert (both.labels[place] == 1) == (prefers != both.turned[place])
    monkeypatch.undo()
    monkeypatch.setenv("PENCHANT_CACHE", str(own_cache))
    long = written(
        tmp_path / "long.jsonl", [row | {"prompt": "Say it at length. " * 60 + str(n)} for n, row in enumerate(rows)]
    )
    with pytest.raises(DataError, match="None of 60 pairs is short enough"):
        dissect(long, model=tiny, folds=4, out=tmp_path / "out")


def test_the_command_line_answers_in_json_and_names_a_wrong_column(called, tmp_path):
    file = written(tmp_path / "votes.jsonl", votes(60, POLITE_NOT_LOUD, user="ann"))
    code, out, _ = called("evaluate", "dissect", file, "--judge", "user", "--folds", "4", "--json", "-")
    assert code == 0
    assert json.loads(out)["dissections"][0]["judge"] == "ann"
    assert (tmp_path / "dissection" / "dissection.json").is_file()
    code, _, error = called("evaluate", "dissect", file, "--judge", "model")
    assert code == 2
    assert "user" in error
