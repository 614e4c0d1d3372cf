import json
from collections import Counter

import numpy as np
import pytest

from penchant.feedback.critiques import Critiques, Instruction
from penchant.records import Comparisons
from penchant.reproductions import ultrafeedback as uf


@pytest.fixture(scope="module")
def runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uf, "N_PROMPTS", 120)
        patch.setattr(uf, "N_TEST", 200)
        return [uf.run(seed, "quick", lambda line: None) for seed in (100, 101)]


def test_the_judge_rates_by_the_hidden_rubric_and_favours_the_first_place():
    world = uf.World(7)
    judge = uf.RubricJudge(world)
    pool = [uf.Generator(world, index) for index in range(4)]
    answers = [pool[0].complete([{"content": "x"}], seed=seed)[0] for seed in range(40)]
    better = sorted(answers, key=lambda text: world.reward(uf.read([text]))[0])
    method = Critiques(pool, judge, shuffle=False)
    rate = lambda texts: method.rate(  # noqa: E731
        Instruction("q"), texts, rng=np.random.default_rng(0), problems=Counter()
    )
    worst, best = (np.mean([one["Rating"] for one in rated.values()]) for rated in rate([better[0], better[-1]]))
    assert best > worst + 1
    twice = [rate([text, text]) for text in answers]
    gaps = [a[aspect]["Rating"] - b[aspect]["Rating"] for a, b in twice for aspect in a]
    assert np.mean(gaps) == pytest.approx(2 * uf._ORDER_BIAS, abs=0.2)


def some_records(world, judge, n=60, **settings):
    pool = [uf.Generator(world, index) for index in range(4)]
    method = Critiques(pool, judge, **settings)
    tasks = [Instruction(f"q{index}") for index in range(n)]
    return method, method.build(tasks, progress=False, say=lambda line: None).records


@pytest.mark.parametrize("settings", [{}, {"shuffle": False}, {"separate_aspects": False}])
def test_no_order_changes_a_winner_for_a_readable_judge_without_order_bias(settings):
    world = uf.World(7)
    method, records = some_records(world, uf.RubricJudge(world, order_bias=0, unreadable=0), **settings)
    places = uf.place_bias({"none": method}, records)
    assert sum(places["none_changed"]) == sum(places["none_lost"]) == 0
    biased = Critiques(method.pool, uf.RubricJudge(world, unreadable=0), shuffle=False)
    places = uf.place_bias({"fixed": biased}, records)
    assert sum(places["fixed_changed"]) >= sum(places["fixed_lost"]) > 0
    assert np.mean(places["fixed_favour"]) == pytest.approx(2 * uf._ORDER_BIAS, abs=0.15)


def test_a_judge_without_order_bias_rates_the_same_in_one_call_as_in_four():
    world = uf.World(7)
    judge = uf.RubricJudge(world, order_bias=0, unreadable=0)
    method, records = some_records(world, judge, n=10)
    again = uf.rated_again(Critiques(method.pool, judge, separate_aspects=False), records, 0)
    assert [one["annotations"] for record in again for one in record["completions"]] == [
        one["annotations"] for record in records for one in record["completions"]
    ]


class Sum:
    """A world whose true reward is the sum of the features."""

    def reward(self, features):
        return features.sum(axis=-1)


def scored(values, scores):
    texts = [uf.written(np.full(uf.N_FEATURES, value)) for value in values]
    return {"completions": [{"response": text, "s": score} for text, score in zip(texts, scores, strict=True)]}


def test_agreement_counts_a_tie_half_and_a_missing_score_as_a_tie():
    records = [scored((1.0, 3.0, 2.0), (1, 5, 3)), scored((1.0, 3.0, 2.0), (4, 4, 1)), scored((1.0, 2.0), (None, 3))]
    found = uf.agreement(records, Sum(), "s")
    # The second: one tie, one right of (3, 2), one wrong of (1, 2).
    assert found["accuracy"] == [1.0, 0.5, 0.5]
    assert found["tied"] == pytest.approx(2 / 7)


def test_kappa_of_the_agreement_is_cohens_with_ties_as_a_label():
    # Six pairs, true signs + + - - + -; judged + + - + 0 -.
    values = [(2, 1), (2, 1), (1, 2), (1, 2), (2, 1), (1, 2)]
    scores = [(2, 1), (2, 1), (1, 2), (2, 1), (1, 1), (1, 2)]
    records = [scored(map(float, v), s) for v, s in zip(values, scores, strict=True)]
    observed, expected = 4 / 6, 3 / 6 * 3 / 6 + 2 / 6 * 3 / 6
    assert uf.agreement(records, Sum(), "s")["kappa"] == pytest.approx((observed - expected) / (1 - expected))


def test_every_arm_is_held_against_the_truth_and_counted(runs):
    for run in runs:
        assert set(run["agreement"]) == {"aspects", "single_call", "fixed_order", "overall", "overall_as_given"}
        assert all(0 < one["kappa"] < 1 and len(one["accuracy"]) == 120 for one in run["agreement"].values())
        tallied = run["tally"]["aspects"]
        assert sum(tallied["scores"]["overall"].values()) == tallied["n_answers"] == 4 * 120
        # Two in a hundred of 8 and of 1 judgements an instruction cannot be read.
        assert 5 <= tallied["n_failed_attempts"] <= 40
        assert run["tally"]["single_call"]["n_failed_attempts"] <= 10
        assert np.mean(run["places"]["without_bias_changed"]) < np.mean(run["places"]["shuffled_changed"])
    notes = uf.verdict(runs).notes
    assert any("Cohen's kappa" in note for note in notes)
    assert any("without order bias" in note for note in notes)


def test_a_one_is_written_as_ten_and_the_pipeline_mends_it():
    world = uf.World(7)
    poor = uf.written(-3 * world.rubric.mean(axis=1) / np.linalg.norm(world.rubric.mean(axis=1)))
    judge = uf.RubricJudge(world)
    prompt = f"...\n{poor}\n...Overall Score: ..."
    answers = {judge.complete([{"content": prompt}], seed=seed)[0] for seed in range(30)}
    assert any(answer.endswith("Overall Score: 10") for answer in answers)
    assert not any(answer.endswith("Overall Score: 1") for answer in answers)
    assert judge.n_tens > 0


def test_equal_questions_bring_equal_answers_and_other_seeds_others():
    generator = uf.Generator(uf.World(3), 2)
    ask = [{"content": "Task"}]
    assert generator.complete(ask, seed=1) == generator.complete(ask, seed=1)
    assert generator.complete(ask, seed=1) != generator.complete(ask, seed=2)


def test_a_reward_model_recovers_the_direction_of_the_true_reward():
    world, rng = uf.World(5), np.random.default_rng(0)
    answers = rng.standard_normal((800, 2, uf.N_FEATURES))
    better = np.argmax(world.reward(answers), axis=1)
    rows = [
        {"prompt": "q", "chosen": uf.written(pair[b]), "rejected": uf.written(pair[1 - b])}
        for pair, b in zip(answers, better, strict=True)
    ]
    weights = uf.learnt(Comparisons.from_rows(rows))
    true = world.rubric.mean(axis=1)
    assert weights @ true / np.linalg.norm(weights) / np.linalg.norm(true) > 0.98


def test_accuracy_counts_pairs_ranked_as_the_truth_does():
    answers = np.array([[[1.0], [2.0], [3.0]]])
    truth = np.array([[1.0, 2.0, 0.0]])
    assert uf.accuracy(np.array([1.0]), answers, truth).tolist() == [pytest.approx(1 / 3)]
    assert uf.accuracy(np.array([-1.0]), answers, truth).tolist() == [pytest.approx(2 / 3)]
    assert uf.accuracy(np.array([0.0]), answers, truth).tolist() == [0.5]


def test_aspect_means_beat_overall_scores_and_best_of_n_gains(runs):
    outcome = uf.verdict(runs)
    assert outcome.ours > outcome.baseline
    assert outcome.interval.estimate == pytest.approx(outcome.ours - outcome.baseline)
    assert any(note.startswith("A4 holds") for note in outcome.notes)
    assert json.loads(json.dumps(runs)) == runs
    assert 0.005 < runs[0]["bug_share"] < 0.08


def test_each_part_of_the_claim_can_fail(runs):
    for spoil, part in (
        (lambda run: run["accuracies"].update(aspects=run["accuracies"]["overall_as_given"]), "A1"),
        (lambda run: run["accuracies"].update(overall=run["accuracies"]["overall_as_given"]), "A2"),
        (lambda run: run["places"].update(shuffled_changed=run["places"]["fixed_changed"]), "A3"),
        (lambda run: run.update(gains=(-np.array(run["gains"])).tolist()), "A4"),
    ):
        spoilt = json.loads(json.dumps(runs))
        for run in spoilt:
            spoil(run)
        outcome = uf.verdict(spoilt)
        assert not outcome.holds
        assert any(note.startswith(f"{part} does not hold") for note in outcome.notes)


def test_the_verdict_holds_where_all_four_parts_do(runs):
    good = json.loads(json.dumps(runs))
    for run in good:
        n = len(run["accuracies"]["aspects"])
        run["accuracies"] |= {"aspects": [0.9] * n, "overall": [0.85] * n, "overall_as_given": [0.7] * n}
        run["places"] |= {"fixed_changed": [0.5] * n, "shuffled_changed": [0.1] * n}
    assert uf.verdict(good).holds


def test_human_choices_have_margins_between_zero_and_one(shared_data, monkeypatch):
    monkeypatch.setenv("PENCHANT_DATA", str(shared_data))
    learn, test = uf.human_choices()
    assert len(learn) > 1000
    assert len(test) > 300
    assert all(0 <= one["margin"] <= 1 and one["chosen"] != one["rejected"] for one in learn + test)


def test_part_b_is_left_out_with_a_word_where_the_data_are_absent(tmp_path, monkeypatch, runs):
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path))
    assert uf.margin_on_human_choices(0) is None
    assert "was not run" in uf.verdict(runs).notes[-1]


def test_the_figure_shows_every_seed(runs):
    left, right = uf.figure(runs).axes
    assert len(right.get_lines()) == len(runs)
    assert left.get_xticklabels()[0].get_text() == "mean of aspects"
