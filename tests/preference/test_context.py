import logging

import numpy as np
import pytest

from penchant.encoders import Apart, Attributes
from penchant.errors import DataError, SettingsError
from penchant.evaluate.paired import paired_accuracy
from penchant.preference import BradleyTerry, ContextAware
from penchant.records import Comparisons, canonical_json


class Asked(Attributes):
    """Prompts that are JSON objects of numbers."""

    reads_prompts = True

    def payload(self, turn):
        return turn.prompt


ENCODER = Apart(Attributes([f"x{k}" for k in range(6)]), Asked([f"z{k}" for k in range(4)]))


def response(x):
    return canonical_json({f"x{k}": round(float(v), 6) for k, v in enumerate(x)})


def context(z):
    return canonical_json({f"z{k}": round(float(v), 6) for k, v in enumerate(z)})


# Of each context, what it makes of each feature; nothing that one wants is half of what another does.
TRUTH = 2 * np.linalg.qr(np.random.default_rng(1).standard_normal((6, 4)))[0].T
CONTEXTS = [context(sign * row) for row in np.eye(4) for sign in (1, -1)]


def wants(z):
    sign = -1 if z % 2 else 1
    return sign * TRUTH[z // 2]


def votes(n=600, *, seed=0, named=True, z=None, n_users=1, reverse=True):
    """Pairs judged in two contexts that disagree about them."""
    rng = np.random.default_rng(seed)
    rows = []
    while len(rows) < n:
        a, b = 2 * rng.standard_normal((2, 6))
        kind = int(rng.integers(8)) if z is None else z
        for one in (kind, kind ^ 1) if reverse else (kind,):
            first, second = (a, b) if (a - b) @ wants(one) > 0 else (b, a)
            rows.append({"prompt": context([len(rows), seed, 0, 0]), "chosen": response(first)})
            rows[-1] |= {"rejected": response(second), "user": f"u{len(rows) % n_users}"}
            rows[-1]["context"] = CONTEXTS[one] if named else None
            if reverse and one != kind:
                rows[-1]["prompt"] = rows[-2]["prompt"]
    return Comparisons.from_rows(rows)


@pytest.fixture(scope="module")
def model():
    return ContextAware(encoder=ENCODER).fit(votes())


def test_it_turns_with_the_context_where_a_model_that_ignores_it_cannot(model):
    held_out = votes(200, seed=5)
    found = paired_accuracy(held_out, model.probability(held_out))
    assert found.paired > 0.8
    assert model.trust_ >= 0.75
    blind = BradleyTerry(encoder=ENCODER, prior_precision=1.0).fit(votes())
    assert paired_accuracy(held_out, blind.probability(held_out)).paired == 0.0


def test_the_learnt_interaction_is_the_true_one(model):
    """Along the contexts, rewards of single features are proportional to what the contexts really make of them."""
    for z in (0, 3, 6):
        found = model.reward([""] * 6, [response(row) for row in np.eye(6)], context=CONTEXTS[z])
        found = found - model.reward([""], [response(np.zeros(6))], context=CONTEXTS[z])
        assert np.corrcoef(found, wants(z))[0, 1] > 0.95


def test_in_a_context_probability_follows_from_the_difference_of_rewards(model):
    own = votes(8, seed=7)
    for row in range(len(own)):
        one = own.take([row])
        side = [one.table[name][0].as_py() for name in ("prompt", "chosen", "rejected", "context")]
        first, second = model.reward([side[0]] * 2, side[1:3], context=side[3])
        assert model.probability(one)[0] == pytest.approx(1 / (1 + np.exp(second - first)), abs=1e-12)


def test_without_a_context_it_is_the_mixture_over_contexts_that_the_formula_says(model):
    silent = votes(10, seed=8, named=False, reverse=False)
    texts = list(model.contexts_[1:])
    in_each = model.probability_in(silent, texts)
    plain = 1 / (1 + np.exp(-_base(model, silent)))
    by_hand = model.prior_[0] * plain + model.prior_[1:] @ in_each
    np.testing.assert_allclose(model.probability(silent), by_hand, atol=1e-12)
    np.testing.assert_allclose(
        model.two_step(silent, texts, model.prior_[1:] / model.prior_[1:].sum()),
        model.prior_[1:] @ in_each / model.prior_[1:].sum(),
    )


def _base(model, comparisons):
    sides = [ENCODER.responses.encode(comparisons.table[name].to_pylist()) for name in ("chosen", "rejected")]
    return (sides[0] - sides[1]) / model.scale_ @ model.weights_


def test_what_a_person_goes_by_is_inferred_from_a_few_labels_and_predicts_the_others(model):
    for z in (1, 4):
        own = votes(16, seed=20 + z, z=z, named=False, reverse=False)
        belief = model.adapt("ann", own)
        assert model.contexts_[belief.probabilities.argmax()] == CONTEXTS[z]
        assert belief.n_pairs == 16
        later = votes(60, seed=40 + z, z=z, named=False, reverse=False)
        asked = Comparisons(later.table.set_column(later.table.column_names.index("user"), "user", [["ann"] * 60]))
        assert (model.probability(asked) > 0.5).mean() > 0.85
        assert (model.probability(later) > 0.5).mean() < 0.75  # nobody known
        best = model.reward([""] * 2, [response(wants(z)), response(-wants(z))], user="ann")
        assert best[0] > best[1]


def test_rows_that_name_their_context_say_nothing_of_what_is_meant_elsewhere(model):
    belief = model.adapt("bob", votes(8, z=2, reverse=False))
    np.testing.assert_allclose(belief.probabilities, model.prior_)
    assert belief.n_pairs == 0


def test_data_in_which_the_context_tells_nothing_give_the_plain_model():
    rng = np.random.default_rng(3)
    rows = votes(400, z=0, reverse=False).table.to_pylist()
    rows = [{**row, "context": CONTEXTS[int(rng.integers(8))]} for row in rows]
    model = ContextAware(encoder=ENCODER).fit(Comparisons.from_rows(rows))
    assert model.trust_ == 0.0
    assert model.contexts_ == (None,)
    plain = BradleyTerry(encoder=ENCODER, prior_precision=1.0).fit(Comparisons.from_rows(rows))
    held_out = votes(50, seed=9)
    np.testing.assert_allclose(model.probability(held_out), plain.probability(held_out), atol=1e-6)


def test_plain_quality_is_kept_where_the_context_is_not_named():
    good = np.array([3.0, 0, 0, 0, 0, 0])
    rng = np.random.default_rng(4)
    rows = votes(400).table.to_pylist()
    for _ in range(400):
        a, b = sorted(rng.standard_normal((2, 6)), key=lambda x: -x @ good)
        rows.append({"prompt": context([len(rows), 9, 9, 9]), "chosen": response(a), "rejected": response(b)})
    model = ContextAware(encoder=ENCODER).fit(Comparisons.from_rows(rows))
    asked = Comparisons.from_rows(rows[-100:])
    assert (model.probability(asked) > 0.5).mean() > 0.9
    assert paired_accuracy(votes(100, seed=6), model.probability(votes(100, seed=6))).paired > 0.7


def test_many_contexts_are_stood_for_by_some_of_them(model):
    few = ContextAware(encoder=ENCODER, candidates=3).fit(votes())
    assert 1 < len(few.contexts_) <= 4
    assert set(few.contexts_[1:]) <= set(CONTEXTS)
    assert few.prior_.sum() == pytest.approx(1.0)
    named = ContextAware(encoder=ENCODER, contexts=CONTEXTS[:2]).fit(votes())
    assert named.contexts_ == (None, *CONTEXTS[:2])


def test_saved_with_contexts_it_is_the_same_model(model, tmp_path):
    model.adapt("ann", votes(8, z=1, named=False, reverse=False))
    model.save(tmp_path)
    again = ContextAware.load(tmp_path, encoder=ENCODER)
    for asked in (votes(20, seed=2), votes(20, seed=2, named=False)):
        np.testing.assert_array_equal(again.probability(asked), model.probability(asked))
    some = ([""], [response(np.ones(6))])
    np.testing.assert_array_equal(again.reward(*some, user="ann"), model.reward(*some, user="ann"))


def test_one_persons_opposite_judgements_in_one_context_are_refused_with_their_rows():
    row = {"prompt": "q", "chosen": response(np.ones(6)), "rejected": response(np.zeros(6)), "context": CONTEXTS[0]}
    turned = row | {"chosen": row["rejected"], "rejected": row["chosen"]}
    with pytest.raises(DataError, match=r"Rows 1, 2: .*\(2 of 3 rows"):
        ContextAware(encoder=ENCODER).fit(Comparisons.from_rows([{**row, "prompt": "p"}, row, turned]))
    with pytest.raises(DataError, match="Rows 0, 1"):
        ContextAware(encoder=ENCODER).fit(Comparisons.from_rows([row, {**row, "strength": 0.0}]))


def test_different_people_may_disagree_in_one_context(caplog):
    row = {"prompt": "q", "chosen": response(np.ones(6)), "rejected": response(np.zeros(6)), "context": CONTEXTS[0]}
    turned = row | {"chosen": row["rejected"], "rejected": row["chosen"], "user": "bob"}
    with caplog.at_level(logging.WARNING):
        ContextAware(encoder=ENCODER).fit(Comparisons.from_rows([row, turned]))
    assert "2 of 2 comparisons name a context" in caplog.text  # too few, and it says so


def test_a_profile_written_by_hand_must_be_a_distribution(model):
    model.adapt("ann", votes(8, z=1, named=False, reverse=False))
    with pytest.raises(SettingsError, match="sum to 1"):
        model.edit("ann", probabilities=[0.5] * len(model.contexts_))
    sure = [0.0] * len(model.contexts_)
    sure[1] = 1.0
    model.edit("ann", probabilities=sure)
    one = votes(1, named=False, reverse=False)
    asked = Comparisons(one.table.set_column(one.table.column_names.index("user"), "user", [["ann"]]))
    assert model.probability(asked)[0] == pytest.approx(model.probability_in(one, [model.contexts_[1]])[0, 0])


def test_bad_settings_and_an_empty_list_are_refused(model):
    for wrong in ({"rank": 0}, {"contexts": []}, {"learning_rate": 0.0}, {"candidates": 0}):
        with pytest.raises(SettingsError):
            ContextAware(encoder=ENCODER, **wrong)
    with pytest.raises(DataError, match="no context"):
        model.probability_in(votes(4), [])
