"""Orchestrator: what counted is found, follows from the prompt where prompts tell, and stays the same where not."""

import numpy as np
import pytest
import torch

from penchant.encoders import Apart, Attributes, Vectors
from penchant.errors import DataError, NotFittedError, SettingsError, UnknownNameError
from penchant.preference import Orchestrator
from penchant.preference.orchestrator import divergence, entropy, targets
from penchant.records import Comparisons, Ratings, canonical_json

NAMES = ("kind", "true", "brief")


class Topics:
    """Reads a prompt as the place of its first word among a few, and a little of its length."""

    name = "topics"

    def __init__(self, *words: str):
        self.words = words

    def payload(self, turn):
        return turn.prompt

    def encode(self, payloads) -> Vectors:
        rows = [[*(1.0 if p.split()[0] == w else 0.0 for w in self.words), 0.01 * len(p)] for p in payloads]
        return np.asarray(rows, np.float32).reshape(-1, len(self.words) + 1)


def written(scores):
    return canonical_json(dict(zip(NAMES, map(float, scores), strict=True)))


def votes(weights, n, *, seed=0, user="ann", scales=(1.0, 1000.0, 0.01), shift=0.0):
    """Choices between random scores; `weights` says what counts under the first word of a prompt."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        word = list(weights)[i % len(weights)]
        a, b = shift + rng.standard_normal((2, 3))
        if rng.random() > 1 / (1 + np.exp(-4 * np.dot(weights[word], a - b))):
            a, b = b, a
        rows.append(
            {"prompt": f"{word} {i}", "chosen": written(a * scales), "rejected": written(b * scales), "user": user}
        )
    return Comparisons.from_rows(rows)


BY_TOPIC = {"joke": (1.0, 0.0, 0.0), "dose": (0.0, 1.0, 0.0)}
ENCODER = Apart(Attributes(NAMES), Topics("joke", "dose"))


@pytest.fixture(scope="module")
def model():
    return Orchestrator(encoder=ENCODER).fit(votes(BY_TOPIC, 400))


def test_targets_are_a_softmax_of_what_won_or_of_what_scored_high():
    chosen, rejected = np.array([[1.0, 2.0, -1.0]]), np.array([[0.0, 3.0, -1.0]])
    won, high = np.exp([1.0, -1.0, 0.0]), np.exp([2.0, 4.0, -2.0])
    np.testing.assert_allclose(targets(chosen, rejected)[0], won / won.sum())
    np.testing.assert_allclose(targets(chosen, rejected, target="plain", temperature=0.5)[0], high / high.sum())


def test_the_divergence_takes_the_target_first_and_knows_weights_of_zero():
    target, weights = torch.tensor([[0.8, 0.2, 0.0]]), torch.tensor([[0.5, 0.25, 0.25]])
    expected = 0.8 * np.log(0.8 / 0.5) + 0.2 * np.log(0.2 / 0.25)
    assert divergence(target, weights.log()).item() == pytest.approx(expected, abs=1e-6)
    assert divergence(weights, weights.log()).item() == pytest.approx(0.0, abs=1e-7)
    assert entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist() == pytest.approx([np.log(2), 0.0])


def test_what_counts_follows_from_the_prompt_on_prompts_never_seen(model):
    assert model.reads_prompts_
    joke, dose = model.weights(["joke 9999", "dose 9998"])
    assert joke.argmax() == 0
    assert dose.argmax() == 1
    assert joke[0] > dose[0] + 0.2
    held_out = votes(BY_TOPIC, 300, seed=5)
    same_for_all = Orchestrator(encoder=Attributes(NAMES)).fit(votes(BY_TOPIC, 400))
    assert model.probability(held_out).mean() > same_for_all.probability(held_out).mean() + 0.05


def test_the_reward_is_the_weighted_sum_of_standardised_scores_within_bounds(model):
    prompts, responses = ["joke 1", "dose 2"], [written((1.0, 500.0, 0.0)), written((1e6, -500.0, 0.0))]
    z = model.scores(prompts, responses)
    assert z.max() == 4.0
    np.testing.assert_allclose(z[0, 0], (1.0 - model.standardise_.mean[0]) / model.standardise_.scale[0])
    expected = model.decisiveness_ * (model.weights(prompts) * z).sum(axis=1)
    np.testing.assert_allclose(model.reward(prompts, responses), expected)


def test_the_scale_of_an_objective_plays_no_part():
    narrow, wide = (
        Orchestrator(encoder=Attributes(NAMES)).fit(votes(BY_TOPIC, 200, scales=scales))
        for scales in ((1.0, 1.0, 1.0), (1e-3, 1e4, 7.0))
    )
    np.testing.assert_allclose(narrow.average_, wide.average_, atol=1e-5)


def test_where_prompts_tell_nothing_weights_are_the_mean_target_for_all():
    model = Orchestrator(encoder=ENCODER).fit(votes({"joke": (0.6, 0.3, 0.1), "dose": (0.6, 0.3, 0.1)}, 200))
    if model.reads_prompts_:  # by luck; then they hardly differ
        assert np.ptp(model.weights(["joke 1", "dose 1"]), axis=0).max() < 0.15
    blind = Orchestrator(encoder=Attributes(NAMES)).fit(votes(BY_TOPIC, 200))
    assert not blind.reads_prompts_
    assert np.isnan(blind.divergence_).all()
    z = [blind.scores([""] * 200, votes(BY_TOPIC, 200).table[side].to_pylist()) for side in ("chosen", "rejected")]
    np.testing.assert_allclose(blind.average_, targets(*z, temperature=1 / 3).mean(axis=0), atol=1e-9)


def test_a_swapped_pair_of_strength_zero_says_the_same():
    pairs = votes(BY_TOPIC, 200)
    swapped = Comparisons.from_rows(
        {**row, "chosen": row["rejected"], "rejected": row["chosen"], "strength": 0.0}
        for row in pairs.table.to_pylist()
    )
    for target in ("margin", "plain"):
        one, other = (Orchestrator(encoder=ENCODER, target=target).fit(rows) for rows in (pairs, swapped))
        np.testing.assert_allclose(one.weights(["joke 1"]), other.weights(["joke 1"]), atol=1e-6)


def test_a_person_who_differs_gets_own_weights_and_one_who_does_not_keeps_the_prompts(model):
    brief = votes({"joke": (0.0, 0.0, 1.0), "dose": (0.0, 0.0, 1.0)}, 40, seed=2, user="bea")
    own = model.adapt("bea", brief)
    assert own.weights.argmax() == 2
    assert own.rho > 0.4
    assert model.weights(["joke 1"], user="bea")[0].argmax() == 2
    alike = model.adapt("al", votes(BY_TOPIC, 12, seed=3, user="al"))
    np.testing.assert_allclose(model.weights(["joke 1"], user="al"), model.weights(["joke 1"]), atol=0.2)
    assert alike.n_pairs == 12
    unseen = votes({"joke": (0.0, 0.0, 1.0)}, 200, seed=4, user="bea")
    everybody = Comparisons(
        unseen.table.set_column(unseen.table.schema.get_field_index("user"), "user", [[None] * 200])
    )
    assert model.probability(unseen).mean() > model.probability(everybody).mean() + 0.1


def test_weights_that_somebody_asks_for_are_blended_in_and_checked(model):
    asked = model.weights(["joke 1"], own=[0, 0, 5], rho=1.0)[0]
    assert asked.tolist() == [0.0, 0.0, 1.0]
    np.testing.assert_allclose(model.weights(["joke 1"], own=[0, 0, 5], rho=0.0), model.weights(["joke 1"]))
    with pytest.raises(SettingsError, match="none negative"):
        model.weights(["joke 1"], own=[1, -1, 1])
    model.adapt("eve", votes(BY_TOPIC, 4, user="eve"))
    assert model.edit("eve", weights=[1.0, 1.0, 2.0], rho=0.5).weights.tolist() == [0.25, 0.25, 0.5]
    with pytest.raises(SettingsError, match="none negative"):
        model.edit("eve", weights=[-1.0, 1.0, 1.0])
    assert model.names("weights") == list(NAMES)


def test_a_prompt_from_elsewhere_is_said_to_be_far(model):
    near, far = model.unfamiliarity(["joke 7", "x " * 400])
    assert near < 1.0
    assert far == 1.0
    assert np.isnan(Orchestrator(encoder=Attributes(NAMES)).fit(votes(BY_TOPIC, 60)).unfamiliarity(["joke 7"])).all()


def test_it_is_kept_with_its_adapter_its_scale_and_what_is_near(model, tmp_path):
    model.adapt("bea", votes({"joke": (0.0, 0.0, 1.0)}, 40, seed=2, user="bea"))
    model.save(tmp_path)
    again = Orchestrator.load(tmp_path, encoder=ENCODER)
    some = ["joke 77", "dose 78", "x " * 400]
    np.testing.assert_array_equal(again.weights(some, user="bea"), model.weights(some, user="bea"))
    np.testing.assert_array_equal(again.unfamiliarity(some), model.unfamiliarity(some))
    np.testing.assert_array_equal(again.probability(votes(BY_TOPIC, 50)), model.probability(votes(BY_TOPIC, 50)))
    assert again.divergence_ == model.divergence_


def test_a_prompt_gets_the_same_weights_alone_and_among_others(model):
    some = [f"joke {i}" for i in range(40)]
    np.testing.assert_allclose(model.weights(some)[7], model.weights(some[7:8])[0], rtol=0, atol=1e-12)


def conflicting(sign, n=600, seed=0):
    """Two kinds of prompts; the objective that counts scores high (sign 1) or low (sign -1) in all responses."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        word, counts = list(BY_TOPIC.items())[i % 2]
        a, b = sign * 1.5 * np.array(counts) + rng.standard_normal((2, 3))
        if rng.random() > 1 / (1 + np.exp(-3 * np.dot(counts, a - b))):
            a, b = b, a
        rows.append({"prompt": f"{word} {i}", "chosen": written(a), "rejected": written(b)})
    return Comparisons.from_rows(rows)


def test_the_regime_report_warns_where_what_counts_scores_low_and_only_there():
    agree, conflict = (conflicting(sign) for sign in (1, -1))
    assert Orchestrator(encoder=ENCODER).fit(agree).regime(agree).in_conflict == ()
    found = Orchestrator(encoder=ENCODER).fit(conflict).regime(conflict)
    assert {"kind", "true"} <= set(found.in_conflict)
    assert "brief" not in found.in_conflict
    assert found.won[0] > found.won[2] + 0.2


def test_in_conflict_the_plain_target_learns_the_reverse_and_the_margin_target_does_not():
    plain, margin = (
        Orchestrator(encoder=ENCODER, target=target).fit(conflicting(-1)) for target in ("plain", "margin")
    )
    assert plain.weights(["joke 9999"])[0].argmax() != 0
    assert margin.weights(["joke 9999"])[0].argmax() == 0


def test_objectives_can_be_learnt_from_ratings_and_their_scale_is_that_of_what_was_rated():
    rng = np.random.default_rng(0)
    rated = Ratings.from_rows(
        {"prompt": "", "response": written(row), "aspect": aspect, "score": float(row @ weights)}
        for row in rng.standard_normal((80, 3))
        for aspect, weights in (("good", np.array([1.0, 1.0, 0.0])), ("short", np.array([0.0, 0.0, 50.0])))
    )
    model = Orchestrator(encoder=ENCODER).measure(rated).fit(votes(BY_TOPIC, 100, scales=(1, 1, 1)))
    assert model.objectives_ == ("good", "short")
    assert model.average_[0] > model.average_[1]
    np.testing.assert_allclose(model.standardise_.scale, [2**0.5, 50.0], rtol=0.2)


def test_scores_that_people_surely_prefer_less_of_are_refused_until_they_are_named():
    long_winded = {"q": (1.0, 1.0, -1.0)}
    with pytest.raises(DataError, match=r"Of 'brief' people surely prefer less"):
        Orchestrator(encoder=Attributes(NAMES)).fit(votes(long_winded, 200))
    model = Orchestrator(encoder=Attributes(NAMES), less=["brief"]).fit(votes(long_winded, 200))
    same = Orchestrator(encoder=Attributes(NAMES)).fit(votes({"q": (1.0, 1.0, 1.0)}, 200))
    np.testing.assert_allclose(model.weights(["q"]), same.weights(["q"]), atol=0.05)
    assert model.probability(votes(long_winded, 200, seed=1)).mean() > 0.75
    Orchestrator(encoder=Attributes(NAMES)).fit(votes({"q": (1.0, 0.0, 0.0)}, 200))  # counts for nothing: may stay
    with pytest.raises(UnknownNameError, match="'short', which is no objective"):
        Orchestrator(encoder=Attributes(NAMES), less=["short"]).fit(votes(long_winded, 200))


def test_less_is_kept_with_the_model(tmp_path):
    model = Orchestrator(encoder=Attributes(NAMES), less=["brief"]).fit(votes({"q": (1.0, 1.0, -1.0)}, 100))
    model.save(tmp_path)
    again = Orchestrator.load(tmp_path, encoder=Attributes(NAMES))
    some = votes({"q": (1.0, 1.0, -1.0)}, 20, seed=2)
    np.testing.assert_array_equal(again.probability(some), model.probability(some))


def test_bad_input_has_a_clear_outcome():
    with pytest.raises(DataError, match="weighs objectives against each other; here is 1"):
        Orchestrator(encoder=Attributes(["kind"])).fit(
            Comparisons.from_rows([{"prompt": "", "chosen": '{"kind":1}', "rejected": '{"kind":2}'}])
        )
    flat = [{"prompt": "", "chosen": written((i, 1, 0)), "rejected": written((0, 1, i))} for i in range(1, 9)]
    with pytest.raises(DataError, match="true: the same score for all"):
        Orchestrator(encoder=Attributes(NAMES)).fit(Comparisons.from_rows(flat))
    with pytest.raises(DataError, match="finite number"):
        Orchestrator(encoder=Attributes(NAMES)).fit(
            Comparisons.from_rows([{"prompt": "", "chosen": '{"kind":NaN,"true":1,"brief":1}', "rejected": "{}"}])
        )
    with pytest.raises(NotFittedError):
        Orchestrator(encoder=Attributes(NAMES)).scores(["q"], [written((1, 2, 3))])
    for wrong in ({"target": "best"}, {"temperature": 0.0}, {"hidden": 0}, {"evidence": 1.0}):
        with pytest.raises(SettingsError):
            Orchestrator(encoder=Attributes(NAMES), **wrong)


def test_an_empty_prompt_is_read_as_it_is():
    model = Orchestrator(encoder=Apart(Attributes(NAMES), Lengths())).fit(votes(BY_TOPIC, 200))
    assert np.isfinite(model.weights([""])).all()


class Lengths:
    """Reads nothing of a prompt but its length."""

    name = "lengths"

    def encode(self, payloads) -> Vectors:
        return np.asarray([[len(p), len(p) % 7] for p in payloads], np.float32).reshape(-1, 2)
