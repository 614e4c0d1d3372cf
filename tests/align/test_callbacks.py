"""Who looks at a policy while it trains: when, in which mode, and without a trace on the weights."""

import pytest
import torch
from tiny_language import TinyPolicy, comparisons

from penchant.align import DPO, TrainerSettings, Watching, train
from penchant.align.callbacks import log_spaced
from penchant.errors import SettingsError
from penchant.evaluate.stances import Likelihood, Probe, Probes
from penchant.evaluate.values import Recorder, Track

SETTINGS = TrainerSettings(steps=12, examples_per_batch=4, learning_rate=3e-3, seed=1)


def trained(folder, watching=None, policy=None, settings=SETTINGS):
    policy = policy or TinyPolicy()
    train(DPO(beta=0.5), policy, comparisons(), settings=settings, folder=folder, progress=False, watching=watching)
    return policy


def test_log_spaced_steps_begin_and_end_and_are_dense_early():
    assert log_spaced(300, 6) == [0, 1, 4, 17, 72, 300]
    assert log_spaced(3, 15) == [0, 1, 2, 3]
    assert log_spaced(10, 2) == [0, 1, 10] or log_spaced(10, 2) == [0, 10]


def test_looks_come_before_the_first_step_and_after_the_last_in_evaluation_mode(tmp_path):
    policy = TinyPolicy(dropout=0.5)
    seen = []

    def look(step):
        seen.append((step, policy.model.training, torch.is_grad_enabled(), policy.model.config.use_cache))

    trained(tmp_path / "run", Watching(look, n=5), policy)
    assert [step for step, *_ in seen] == log_spaced(12, 5)
    assert all(state == [False, False, True] for _, *state in seen)


def test_a_run_that_is_watched_ends_with_the_weights_of_one_that_is_not(tmp_path):
    policy = TinyPolicy()
    samples = []
    watching = Watching(lambda step: samples.append(policy.sample(["what is"], 2, seed=step)), steps=[0, 5, 12])
    watched = trained(tmp_path / "watched", watching, policy)
    assert len(samples) == 3
    assert torch.equal(watched.weights(), trained(tmp_path / "alone").weights())


def test_a_finished_run_is_not_looked_at_again(tmp_path):
    seen = []
    for _ in range(2):
        trained(tmp_path / "run", Watching(seen.append, steps=[0, 12]))
    assert seen == [0, 12]


def test_fewer_than_two_looks_are_refused():
    with pytest.raises(SettingsError, match="n >= 2"):
        Watching(print, n=1)


def test_values_are_recorded_while_the_policy_trains(tmp_path):
    """The whole way: probes in the tiny language, read at three steps, with a drift that is the policy's own."""
    probes = Probes.of([Probe("tea", f"is {word} good", 1) for word in ("a", "b", "c", "d", "e")])
    policy = TinyPolicy()
    policy.log_probabilities = lambda prompts, some: scored(policy, prompts, some)
    reader = Likelihood({"support": ["yes", "good"], "neutral": ["maybe", "maybe or"], "oppose": ["no", "bad"]})
    record = Recorder(policy, probes, reader, stage="dpo")
    wanted = [{"prompt": f"is {word} good", "chosen": "yes", "rejected": "no"} for word in "abcde"]
    from penchant.records import Comparisons

    train(
        DPO(beta=0.5),
        policy,
        Comparisons.from_rows(wanted),
        settings=TrainerSettings(steps=20, examples_per_batch=5, learning_rate=1e-2),
        folder=tmp_path,
        progress=False,
        watching=Watching(record, steps=[0, 10, 20]),
    )
    [found] = Track(record.checkpoints, probes).drifts()
    assert [one.step for one in record.checkpoints] == [0, 10, 20]
    assert found.magnitude["support"].low > 0.02
    assert found.magnitude["oppose"].high < 0


def scored(policy, prompts, responses):
    from types import SimpleNamespace

    from tiny_language import by_hand

    return [
        [
            SimpleNamespace(mean=float(value) / len(ids))
            for value, ids in zip(by_hand(policy.model, example), example.responses, strict=True)
        ]
        for example in (policy.encode(x, some) for x, some in zip(prompts, responses, strict=True))
    ]
