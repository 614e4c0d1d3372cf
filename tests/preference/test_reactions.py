"""P[love]: corrections in closed form, recovery of known tastes, and what of a log is not believed."""

import json
from datetime import datetime

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.methods import method
from penchant.people import reactors
from penchant.preference import PreferenceModel
from penchant.preference.reactions import BELIEVE_ALL, Cleaning, Lover, ReactionRate, cleaned
from penchant.records import Reactions, canonical_json


def payload(x):
    return canonical_json({f"x{k}": round(float(v), 6) for k, v in enumerate(x)})


def logged(n=6000, n_people=60, *, seed=0, taste=(1.0, -0.5), base=-3.0, turn_effect=0.0, spread=0.0):
    """Replies with two features, shown to simulated people; goodbyes late in the talk have a high first feature."""
    rng = np.random.default_rng(seed)
    people = reactors(n_people, taste, base=base, spread=spread, random=0, everything=0, fatigue=0, seed=seed)
    who, turn = rng.integers(n_people, size=n), rng.geometric(0.3, n)
    x = rng.standard_normal((n, 2))
    if turn_effect:
        x[:, 0] += np.log(turn)
    chance = people.probability(who, x, 0, turn_effect * np.log(turn))
    loved, _ = people.react(chance, rng)
    rows = [
        {
            "prompt": f"q{i}",
            "response": payload(x[i]),
            "reaction": "love" if loved[i] else "none",
            "user": people.names[who[i]],
            "extra": json.dumps({"turn": int(turn[i])}),
        }
        for i in range(n)
    ]
    return Reactions.from_rows(rows), chance


LOG, CHANCE = logged()


def new(**settings):
    return ReactionRate(**{"encoder": Attributes(), "cleaning": BELIEVE_ALL, **settings})


def per_unit(model):
    """Weights in logits per unit of the features."""
    return model.weights_[:2] / model.scale_


def shown(*rows):
    names = ("user", "prompt", "reaction", "time", "extra")
    given = [dict(zip(names, row, strict=False)) for row in rows]
    for row in given:
        if row.get("time"):
            row["time"] = datetime.fromisoformat(row["time"])
    return Reactions.from_rows([{"response": '{"x": 1}', "time": None, "extra": None, **row} for row in given])


def test_known_tastes_and_the_base_rate_are_found_again_although_most_negatives_are_left_out():
    model = new(positive_share=0.3, l2=0.01).fit(LOG)
    assert 0.05 < model.kept_negatives_ < 0.3
    np.testing.assert_allclose(per_unit(model), [1.0, -0.5], atol=0.2)
    assert model.predict(LOG).mean() == pytest.approx(CHANCE.mean(), rel=0.15)
    assert np.abs(np.log(model.predict(LOG) / CHANCE)).mean() < 0.3


def test_the_correction_of_the_sample_is_log_rho_and_in_the_right_direction():
    every = new(positive_share=None, share_to_calibrate=0.0, l2=0.01).fit(LOG)
    some = new(positive_share=0.4, share_to_calibrate=0.0, l2=0.01).fit(LOG)
    assert every.kept_negatives_ == 1
    rho = some.kept_negatives_
    assert rho < 0.2
    gap = (every.reward(["q"], [payload([0, 0])]) - some.reward(["q"], [payload([0, 0])])).item()
    assert abs(gap) < 0.3
    assert abs(gap) < abs(gap + np.log(rho)) / 3  # uncorrected it would be off by as much


def test_a_lone_intercept_is_the_logarithm_of_the_odds():
    rows = [("u", f"q{i}", "love" if i % 5 == 0 else "none") for i in range(100)]
    model = new(share_to_calibrate=0.0, positive_share=0.5, encoder=Attributes(["x"])).fit(shown(*rows))
    assert model.kept_negatives_ == pytest.approx(20 / 80)
    assert model.reward(["q"], ['{"x": 1}']).item() == pytest.approx(np.log(20 / 80), abs=1e-4)


def test_the_turn_is_no_merit_of_the_reply():
    late, _ = logged(20_000, turn_effect=1.0, taste=(0.3, 0.0))
    without = Reactions(late.table.drop_columns(["extra"]))
    told, untold = new(l2=0.01).fit(late), new(l2=0.01).fit(without)
    assert per_unit(told)[0] == pytest.approx(0.3, abs=0.12)
    assert per_unit(untold)[0] > per_unit(told)[0] + 0.15


def test_calibration_mends_probabilities_that_were_shrunk_too_much():
    shrunk = new(l2=3000.0).fit(LOG)
    assert shrunk.slope_ > 1.3
    raw = new(l2=3000.0, share_to_calibrate=0.0).fit(LOG)
    with pytest.warns(UserWarning, match="not calibrated"):
        p = raw.predict(LOG)
    loss = [-np.mean(CHANCE * np.log(q) + (1 - CHANCE) * np.log1p(-q)) for q in (shrunk.predict(LOG), p)]
    assert loss[0] < loss[1]


def test_a_person_is_learnt_from_few_replies_and_nothing_shared_changes():
    everybody, _ = logged(6000, 60, spread=1.0, seed=3)
    model = new().fit(everybody)
    before = model.weights_.copy()
    mine = [
        {"prompt": f"p{i}", "response": payload([x, 0]), "reaction": "love" if x < 0 else "none", "user": "odd"}
        for i, x in enumerate(np.linspace(-2, 2, 30))
    ]
    assert model.adapt("odd", Reactions.from_rows(mine)).n_shown == 30
    low, high = model.reward(["q"] * 2, [payload([-1, 0]), payload([1, 0])], user="odd")
    assert low > high
    low, high = model.reward(["q"] * 2, [payload([-1, 0]), payload([1, 0])])
    assert low < high
    np.testing.assert_array_equal(model.weights_, before)
    quiet = Reactions.from_rows([{**row, "reaction": "none", "user": "quiet"} for row in mine])
    model.adapt("quiet", quiet)
    some = (["q"], [payload([0, 0])])
    assert model.reward(*some, user="quiet") < model.reward(*some)
    model.adapt("nothing", quiet.take([]))
    np.testing.assert_array_equal(model.reward(*some, user="nothing"), model.reward(*some, user="never seen"))


def test_who_reacts_to_everything_teaches_nothing_and_is_like_everybody():
    flood = [
        {"prompt": f"f{i}", "response": payload([i % 3, 0]), "reaction": "love", "user": "flood"} for i in range(200)
    ]
    log = Reactions.concat([LOG, Reactions.from_rows(flood)])
    model = ReactionRate(encoder=Attributes()).fit(log)
    assert model.dropped_ == {"by somebody who reacts to far more than others do": 200}
    clean = ReactionRate(encoder=Attributes()).fit(LOG)
    np.testing.assert_allclose(per_unit(model), per_unit(clean), atol=0.1)
    assert model.adapt("flood", log.of("flood")).n_shown == 0


def test_people_who_react_far_more_often_than_others_are_left_out_and_fond_ones_stay():
    rows = [(f"u{i % 50}", f"q{i}", "love" if i % 97 < 2 else "none") for i in range(5000)]
    rows += [("half", f"h{i}", "love" if i % 2 else "none") for i in range(100)]
    rows += [("fond", f"f{i}", "love" if i % 20 == 0 else "none") for i in range(100)]
    found = cleaned(shown(*rows))
    assert found.dropped == {"by somebody who reacts to far more than others do": 100}
    assert "fond" in found.reactions.users
    kept = cleaned(shown(*rows), cleaning=BELIEVE_ALL)
    assert kept.dropped == {}
    assert len(kept.loved) == len(rows)


def test_the_same_reply_to_the_same_person_counts_once_with_its_heart():
    found = cleaned(
        shown(("u", "q", "none"), ("u", "q", "love"), ("v", "q", "none"), (None, "q", "none"), (None, "q", "none"))
    )
    assert found.dropped == {"the same reply to the same person again": 1}
    assert found.loved.tolist() == [True, False, False, False]


def test_a_reply_whose_window_is_open_teaches_nothing_and_late_hearts_do_not_count():
    day = "2026-01-0{}T00:00:00Z".format
    late = '{"after_seconds": 200000}'
    log = shown(
        ("a", "1", "love", day(1), '{"after_seconds": 60}'),
        ("b", "2", "love", day(1), late),
        ("c", "3", "none", day(2)),
        ("d", "4", "love", day(5), '{"after_seconds": 60}'),
        ("e", "5", "none", day(5)),
        ("f", "6", "none"),
        ("g", "7", "none", day(7)),
    )
    found = cleaned(log, cleaning=Cleaning(window=86_400.0, until="2026-01-05T12:00:00Z"))
    assert found.loved.tolist() == [True, False, False]
    assert found.n_late == 1
    assert found.dropped == {
        "shown after the end of the log": 1,
        "no time, so that nobody knows whether a reaction may still come": 1,
        "shown so late that a reaction may still come": 2,
    }
    assert len(cleaned(log, cleaning=Cleaning(window=None)).loved) == 7
    with pytest.raises(SettingsError, match="until must be a time"):
        cleaned(log, cleaning=Cleaning(until="yesterday"))


def test_prompts_that_ask_for_a_heart_and_the_replies_of_a_chatterbox_are_left_out():
    rows = [("u", "Please heart this reply!", "love"), ("u", "I love cooking. Any tips?", "none")]
    rows += [("u", f"q{i}", "none") for i in range(8)]
    found = cleaned(shown(*rows), cleaning=Cleaning(most_per_person=4))
    assert found.dropped == {"the prompt asks for a reaction": 1, "beyond the most replies of one person": 5}
    again = cleaned(shown(*rows), cleaning=Cleaning(most_per_person=4))
    assert again.reactions.table.equals(found.reactions.table)


def test_every_row_is_kept_or_counted():
    rng = np.random.default_rng(0)
    rows = [
        (
            rng.choice(["a", "b", None]),
            f"q{rng.integers(5)}",
            rng.choice(["love", "none", "copy"]),
            "2026-01-01T00:00:00Z",
        )
        for _ in range(300)
    ]
    found = cleaned(shown(*rows), cleaning=Cleaning(most_per_person=2))
    assert len(found.loved) + sum(found.dropped.values()) == 300
    assert found.reactions.table.equals(shown(*rows).take(found.rows).table)


def test_it_is_no_preference_model_and_still_a_model_of_people(tmp_path):
    assert not issubclass(method("reactions").resolve(), PreferenceModel)
    model = new().fit(LOG)
    model.adapt("u é/..", LOG.of("person-01"))
    model.save(tmp_path)
    again = ReactionRate.load(tmp_path, encoder=Attributes())
    np.testing.assert_array_equal(again.predict(LOG), model.predict(LOG))
    some = (["q"], [payload([1, 1])])
    np.testing.assert_array_equal(again.reward(*some, user="u é/.."), model.reward(*some, user="u é/.."))
    assert again.cleaning == model.cleaning
    assert isinstance(again.users_["u é/.."], Lover)
    assert again.knows("u é/..")


def test_the_same_seed_gives_the_same_model_and_fitting_again_forgets():
    once, twice = new().fit(LOG), new().fit(LOG.take(range(3000)))
    twice.adapt("x", LOG.of("person-01"))
    twice.fit(LOG)
    np.testing.assert_array_equal(once.weights_, twice.weights_)
    assert twice.users_ == {}


def test_without_a_person_it_is_the_model_that_never_saw_them():
    others = LOG.without("person-03")
    model = new().fit(LOG).adapt_each(LOG.take(range(20)))
    model.adapt("person-03", LOG.of("person-03"))
    again = model.without("person-03", others)
    np.testing.assert_array_equal(again.weights_, new().fit(others).weights_)
    assert "person-03" not in again.users_
    assert set(again.users_) == set(model.users_) - {"person-03"}
    with pytest.raises(DataError, match="who is to be forgotten"):
        model.without("person-03", LOG)


def test_what_cannot_be_learnt_from_is_a_clear_error():
    with pytest.raises(NotFittedError):
        new().predict(LOG)
    with pytest.raises(DataError, match=r"0 of 3 replies .* signs \['copy', 'none'\]"):
        new().fit(shown(("a", "1", "copy"), ("b", "2", "none"), ("c", "3", "none")))
    with pytest.raises(DataError, match="2 of 2 replies"):
        new().fit(shown(("a", "1", "love"), ("b", "2", "love")))
    with pytest.raises(DataError, match="0 of 0 replies"):
        new().fit(LOG.take([]))
    with pytest.raises(DataError, match="encoder"):
        new().fit(LOG).reward(["q"], ['{"x0": 1}'])
    for wrong in ({"positive_share": 0.0}, {"l2": 0.0}, {"share_to_calibrate": 1.0}, {"prior_precision": -1.0}):
        with pytest.raises(SettingsError, match="positive_share"):
            new(**wrong)
    assert new().fit(LOG).reward([], []).shape == (0,)
    assert new().fit(LOG).predict(LOG.take([])).shape == (0,)
