import numpy as np
import pytest
import torch
from tiny_language import TinyPolicy, batch_of, by_hand, scores
from torch.optim.optimizer import register_optimizer_step_pre_hook

from penchant import objectives
from penchant.align import DPO, FSPO, TrainerSettings, train
from penchant.align.batches import encode
from penchant.align.few_shot import description_pairs
from penchant.encoders import Attributes
from penchant.errors import DataError
from penchant.preference.shots import written
from penchant.records import Comparisons, Rankings


def votes(n=12, users=("ann", "bob")):
    rows = [
        {"prompt": f"what is {c} {k}", "chosen": "red tea", "rejected": "blue coffee", "user": user}
        for user in users
        for k, c in enumerate("abcdeabcdeab"[:n])
    ]
    return Comparisons.from_rows(rows)


def test_its_examples_are_the_windows_and_its_loss_is_that_of_ipo_on_summed_log_ratios():
    method = FSPO(n_shots=2, beta=0.25, repeats=1)
    examples = method.examples(votes(6))
    assert [example["user"] for example in examples] == ["ann", "ann", "bob", "bob"]
    batch = batch_of(examples[:2], reference=[-1.0, -2.0, -3.0, -4.0])
    found = method.loss(scores([-1.0, -5.0, -2.0, -4.0], lengths=[1, 2, 1, 3]), batch)
    h = torch.tensor([(-1.0 + 1) - (-5 + 2), (-2.0 + 3) - (-4 + 4)])
    torch.testing.assert_close(found, (h - 1 / (2 * 0.25)) ** 2)
    dpo = FSPO(objective="dpo", n_shots=2, beta=0.25, repeats=1)
    dpo.examples(votes(6))
    found = dpo.loss(scores([-1.0, -5.0, -2.0, -4.0]), batch)
    torch.testing.assert_close(found, objectives.dpo(h, torch.zeros(2), beta=0.25))


def test_without_shots_it_is_the_plain_method_on_the_same_text():
    population = FSPO(objective="dpo", beta=0.1, n_shots=0, repeats=1)
    shown, _ = written(votes(3), 0, repeats=1)
    plain = DPO(objective="dpo", beta=0.1).examples(shown)
    assert population.examples(votes(3)) == plain


def test_the_shots_are_computed_once_for_both_answers():
    rows, _ = encode(FSPO(n_shots=2, repeats=1), TinyPolicy(), votes(6))
    for row in rows:
        chosen, rejected = row.tokens.responses
        apart = 2 * len(row.tokens.prompt) + len(chosen) + len(rejected)
        assert len(row.tokens.prompt) > 20  # of which most are shots
        assert row.tokens.n_tokens < apart - len(row.tokens.prompt)  # their common heading once, too


def test_what_was_left_out_is_counted():
    method = FSPO(n_shots=3, repeats=1, max_characters=400)
    rows = [*votes(8).table.to_pylist(), {**votes(1).table.to_pylist()[0], "user": "eve"}]
    method.examples(Comparisons.from_rows(rows))
    assert method.dropped_["people with fewer than 4 decided rows"] == 1
    assert method.dropped_["shots that did not fit"] > 0


def test_the_trainer_takes_the_gradient_of_ipo_under_a_persons_choices_and_lowers_its_loss(tmp_path):
    method, policy = FSPO(n_shots=1, repeats=1, beta=0.5), TinyPolicy()
    policy.model.config.max_position_embeddings = 256  # rotary positions have no table that ends
    shown = method.examples(votes(4))
    model = policy.model.eval()
    loss = torch.zeros(())
    for example in shown:
        chosen, rejected = by_hand(model, policy.encode(example["prompt"], example["responses"]))
        h = (chosen - chosen.detach()) - (rejected - rejected.detach())
        loss = loss + (h - 1 / (2 * 0.5)) ** 2 / len(shown)
    wanted = torch.autograd.grad(loss, list(model.parameters()))

    seen = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append([p.grad.clone() for p in model.parameters()])
    )
    once = TrainerSettings(steps=1, examples_per_batch=len(shown), max_gradient_norm=0.0, log_steps=1)
    first = train(method, policy, votes(4), settings=once, folder=tmp_path / "once", progress=False)
    handle.remove()
    assert first.n_examples == len(shown)
    assert first.loss == pytest.approx(1.0, rel=1e-6)  # (1 / 2 beta)^2: it begins as its own reference
    for got, hand in zip(seen[-1], wanted, strict=True):
        torch.testing.assert_close(got, hand, rtol=1e-4, atol=1e-6)

    more = TrainerSettings(steps=30, examples_per_batch=8, learning_rate=3e-3, held_out=0.5, log_steps=1)
    later = train(
        FSPO(n_shots=1, beta=0.5), TinyPolicy(), votes(8), settings=more, folder=tmp_path / "m", progress=False
    )
    assert later.held_out_loss < 0.5


def test_other_records_are_refused():
    rankings = Rankings.from_rows([{"prompt": "q", "responses": ["a", "b"]}])
    with pytest.raises(DataError, match="comparisons with users"):
        FSPO().examples(rankings)


def test_of_a_models_descriptions_the_closer_one_to_the_truth_is_preferred():
    class Lengths(Attributes):
        def encode(self, payloads):
            return np.array([[1.0, len(text)] for text in payloads], dtype=np.float32)

    tried = [f"## User Description\n{text}\n\n## Preferred Response\nx" for text in ("aaaa", "a" * 40, "aaa")]
    pairs, dropped = description_pairs(
        ["p", "q"], [tried, [tried[0], "no description"]], ["bbbb", "b"], Lengths(), users=["ann", "bob"]
    )
    [row] = pairs.table.to_pylist()
    assert dropped == {"fewer than two different descriptions": 1}
    assert (row["prompt"], row["user"]) == ("p", "ann")
    assert "\naaaa\n" in row["chosen"]
    with pytest.raises(DataError, match="as many"):
        description_pairs(["p"], [], ["b"], Lengths())
    with pytest.raises(DataError, match="None of 1"):
        description_pairs(["p"], [["x"]], ["b"], Lengths())
