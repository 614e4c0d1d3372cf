"""The trainer: its first gradient, and the runs that must end with the same weights."""

import json
import os
import signal

import pytest
import torch
from tiny_language import TinyPolicy, by_hand, comparisons
from torch.optim.optimizer import register_optimizer_step_pre_hook

from penchant.align import DPO, Supervised, TrainerSettings, train
from penchant.align.batches import encode
from penchant.align.reference import reference_log_probabilities
from penchant.cache import RowCache
from penchant.errors import DataError, MissingExtraError, SettingsError
from penchant.policies import log_probabilities as kept

BETA = 0.5


def run(folder, policy=None, aligner=None, records=None, *, resume=True, held_out=None, **changes):
    settings = {"steps": 4, "examples_per_batch": 8, "learning_rate": 3e-3, "seed": 1, "log_steps": 1, **changes}
    policy = policy or TinyPolicy()
    result = train(
        aligner or DPO(beta=BETA),
        policy,
        records if records is not None else comparisons(),
        settings=TrainerSettings(**settings),
        folder=folder,
        resume=resume,
        held_out=held_out,
        progress=False,
    )
    return policy.weights(), result


def test_the_gradient_of_the_first_step_equals_a_loop_written_by_hand(tmp_path):
    records = comparisons(8)
    policy = TinyPolicy()
    model = policy.model.eval()
    loss = torch.zeros(())
    for example, strength in zip(DPO().examples(records), records.numpy("strength").tolist(), strict=True):
        chosen, rejected = by_hand(model, policy.encode(example["prompt"], example["responses"]))
        margin = BETA * ((chosen - chosen.detach()) - (rejected - rejected.detach()))
        soft = strength * torch.nn.functional.softplus(-margin) + (1 - strength) * torch.nn.functional.softplus(margin)
        loss = loss + soft / 8
    expected = torch.autograd.grad(loss, list(model.parameters()))

    seen = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append([p.grad.clone() for p in model.parameters()])
    )
    _, result = run(tmp_path, policy, records=records, steps=1, max_gradient_norm=0.0)
    handle.remove()
    assert result.loss == pytest.approx(loss.item(), rel=1e-6)
    for got, wanted in zip(seen[0], expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_a_run_resumed_from_any_checkpoint_ends_with_the_very_same_weights(tmp_path):
    keep = {"steps": 5, "save_steps": 1, "keep_checkpoints": None}
    whole, _ = run(tmp_path, TinyPolicy(dropout=0.2), **keep)
    for step in (1, 3):
        again, result = run(tmp_path, TinyPolicy(dropout=0.2), resume=step, **keep)
        assert torch.equal(again, whole)
        assert result.resumed_from == step
    assert not torch.equal(whole, TinyPolicy().weights())


def test_a_checkpoint_cut_off_while_it_was_written_does_not_count(tmp_path):
    whole, _ = run(tmp_path, save_steps=2)
    (tmp_path / "checkpoint-4" / "trainer_state.json").unlink()
    again, result = run(tmp_path, save_steps=2)
    assert result.resumed_from == 2
    assert torch.equal(again, whole)


def test_two_batches_of_four_train_like_one_of_eight_even_where_the_last_step_is_short(tmp_path):
    records = comparisons(19)
    changes = {"steps": None, "epochs": 2.0, "records": records}
    whole, first = run(tmp_path / "a", **changes)
    parts, second = run(tmp_path / "b", examples_per_batch=4, accumulation=2, **changes)
    assert first.steps == second.steps == 5  # 38 rows: four steps of eight, one of six
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


def test_packed_and_padded_batches_train_alike(tmp_path):
    one, _ = run(tmp_path / "a", packed=True)
    other, _ = run(tmp_path / "b", packed=False)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_an_interrupted_run_goes_on_to_the_weights_of_an_uninterrupted_one(tmp_path, number, error):
    class Interrupted(DPO):
        calls = 0

        def loss(self, *arguments):
            self.calls += 1
            if self.calls == 2:
                os.kill(os.getpid(), number)
            return super().loss(*arguments)

    whole, _ = run(tmp_path / "a")
    handler = signal.getsignal(number)
    with pytest.raises(error, match=r"goes on from the checkpoint|143"):
        run(tmp_path / "b", aligner=Interrupted(beta=BETA))
    assert signal.getsignal(number) is handler
    assert (tmp_path / "b" / "checkpoint-2" / "trainer_state.json").exists()

    class Whole(Interrupted):
        calls = 2

    Whole.__qualname__ = Interrupted.__qualname__
    again, result = run(tmp_path / "b", aligner=Whole(beta=BETA))
    assert result.resumed_from == 2
    assert torch.equal(again, whole)


def test_a_resumed_full_finetune_keeps_the_reference_of_the_policy_it_began_with(tmp_path):
    policy = TinyPolicy()
    keep = {"save_steps": 2, "keep_checkpoints": None}
    whole, _ = run(tmp_path, policy, **keep)
    again, _ = run(tmp_path, policy, resume=2, **keep)  # the same object, whose weights have moved
    assert torch.equal(again, whole)


def test_a_folder_is_not_shared_by_different_runs(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(SettingsError, match=r"trainer\.learning_rate was 0.003 and is 0.1"):
        run(tmp_path, steps=2, learning_rate=0.1)
    with pytest.raises(SettingsError, match=r"settings\.beta"):
        run(tmp_path, steps=2, aligner=DPO(beta=0.2))
    with pytest.raises(SettingsError, match="other rows"):
        run(tmp_path, steps=2, records=comparisons(seed=9))
    with pytest.raises(SettingsError, match="already holds a run"):
        run(tmp_path, steps=2, resume=False)
    with pytest.raises(SettingsError, match="no checkpoint of step 7"):
        run(tmp_path, steps=2, resume=7)


def test_early_stopping_leaves_the_weights_of_the_lowest_held_out_loss(tmp_path):
    records = comparisons(strengths=(1.0,))
    contrary = type(records)(
        records.table.rename_columns(
            [{"chosen": "rejected", "rejected": "chosen"}.get(name, name) for name in records.table.column_names]
        )
    )
    changes = {"records": records, "held_out": contrary, "eval_steps": 1, "schedule": "constant", "warmup": 0.0}
    best, result = run(tmp_path / "a", steps=30, patience=2, **changes)
    assert result.steps == 3  # the held-out loss rises from the first step on
    once, _ = run(tmp_path / "b", steps=1, **changes)
    assert torch.equal(best, once)


def test_held_out_numbers_weigh_every_example_alike(tmp_path):
    held_out = comparisons(7, seed=5, strengths=(1.0,))
    policy = TinyPolicy()
    reference = [by_hand(policy.model, row.tokens) for row in encode(DPO(), policy, held_out)[0]]
    _, result = run(tmp_path, policy, held_out=held_out, eval_steps=4, examples_per_batch=3)
    after = [by_hand(policy.model, row.tokens) for row in encode(DPO(), policy, held_out)[0]]
    margins = torch.stack([BETA * ((a - r)[0] - (a - r)[1]) for a, r in zip(after, reference, strict=True)])
    last = [line for line in result.history if "eval_loss" in line][-1]
    assert last["eval_loss"] == pytest.approx(torch.nn.functional.softplus(-margins).mean().item(), rel=1e-4)
    assert last["eval_rewards/margins"] == pytest.approx(margins.mean().item(), abs=1e-4)
    assert last["eval_rewards/accuracies"] == pytest.approx((margins > 0).float().mean().item())


def test_a_share_of_the_prompts_can_be_held_out(tmp_path):
    _, result = run(tmp_path, held_out=None, steps=2, eval_steps=2, records=comparisons(20))
    assert result.held_out_loss is None
    settings = TrainerSettings(steps=2, eval_steps=2, held_out=0.25)
    result = train(DPO(), TinyPolicy(), comparisons(20), settings=settings, folder=tmp_path / "b", progress=False)
    assert result.n_examples == 15
    assert result.held_out_loss > 0


def test_the_log_counts_epochs_and_starts_with_rewards_of_zero(tmp_path):
    _, result = run(tmp_path, steps=4)
    lines = [line for line in result.history if "loss" in line]
    assert [line["epoch"] for line in lines] == [0.5, 1.0, 1.5, 2.0]
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["rewards/margins"] > 0
    assert lines[-1]["rewards/chosen"] - lines[-1]["rewards/rejected"] > 0


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_with_lora_the_reference_is_the_model_without_its_adapter_and_only_the_adapter_moves(tmp_path):
    policy = TinyPolicy(lora_rank=4)
    plain = TinyPolicy()
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    run(tmp_path, policy, learning_rate=0.05)
    moved = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    rows, _ = encode(DPO(), plain, comparisons())
    with_adapter = reference_log_probabilities(policy.model, rows, pad=0, use_packing=True)
    without = reference_log_probabilities(plain.model, rows, pad=0, use_packing=True)
    torch.testing.assert_close(torch.cat(with_adapter), torch.cat(without))


def test_reference_log_probabilities_are_exact_and_one_more_row_costs_one_row(tmp_path, monkeypatch):
    policy = TinyPolicy()
    rows, _ = encode(DPO(), policy, comparisons(6))
    computed = []
    original = kept.token_log_probabilities

    def counted(model, batch):
        computed.append(int(batch["n_responses"]))
        return original(model, batch)

    monkeypatch.setattr(kept, "token_log_probabilities", counted)
    cache = RowCache(tmp_path / "rows.sqlite")
    first = reference_log_probabilities(policy.model, rows[:5], pad=0, use_packing=True, cache=cache)
    expected = torch.cat([by_hand(policy.model, row.tokens) for row in rows[:5]])
    torch.testing.assert_close(torch.cat(first), expected, rtol=1e-5, atol=1e-5)
    second = reference_log_probabilities(policy.model, rows, pad=0, use_packing=True, cache=cache)
    assert computed == [10, 2]
    assert torch.equal(torch.cat(second[:5]), torch.cat(first))
    policy.model.lm_head.weight.data.mul_(1.1)  # other weights, other numbers
    assert not torch.equal(
        torch.cat(reference_log_probabilities(policy.model, rows, pad=0, use_packing=True, cache=cache)),
        torch.cat(second),
    )


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    class Broken(DPO):
        def loss(self, *arguments):
            return super().loss(*arguments) * float("inf")

    with pytest.raises(DataError, match="not finite at step 1, in 8 of 8"):
        run(tmp_path, aligner=Broken())


def test_an_aligner_that_takes_the_mean_itself_is_refused(tmp_path):
    class Reduced(Supervised):
        def loss(self, *arguments):
            return super().loss(*arguments).mean()

    with pytest.raises(DataError, match="one per example"):
        run(tmp_path, aligner=Reduced())


def test_the_policy_is_handed_back_as_it_came(tmp_path):
    policy = TinyPolicy()
    policy.model.eval()
    run(tmp_path, policy, steps=1, precision="bf16")
    assert not policy.model.training
    assert policy.model.config.use_cache
    ids = torch.tensor([[1, 5, 6]])
    assert policy.model(input_ids=ids).logits.dtype == torch.float32
    exact = policy.model.lm_head(policy.model.model(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(policy.model(input_ids=ids).logits, exact, rtol=0, atol=0)  # no autocast is left behind


def test_the_recipe_and_tensorboard_lines_lie_beside_the_result(tmp_path):
    _, result = run(tmp_path, steps=2, loggers=("tensorboard",))
    recipe = json.loads((tmp_path / "run.json").read_text())
    assert recipe["method"] == "penchant.align.dpo:DPO"
    assert recipe["trainer"]["learning_rate"] == 0.003
    assert recipe["versions"]["torch"] == torch.__version__
    assert list(tmp_path.glob("**/events.out.tfevents*"))
    assert (result.policy / "model.safetensors").exists()


def test_a_logger_that_is_not_installed_names_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install wandb"):
        run(tmp_path, loggers=("wandb",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"epochs": 0.0},
        {"learning_rate": float("nan")},
        {"examples_per_batch": 0},
        {"warmup": 1.0},
        {"held_out": -0.1},
        {"loggers": ("print",)},
        {"accumulation": 0},
        {"weight_decay": -1.0},
    ],
)
def test_settings_out_of_their_range_are_refused_by_name(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        TrainerSettings(**wrong)


def test_early_stopping_needs_something_held_out(tmp_path):
    with pytest.raises(SettingsError, match="held-out"):
        run(tmp_path, patience=2)


def test_bf16_is_only_chosen_on_a_gpu_that_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not TrainerSettings().runs_bf16()  # whatever the processor: the same run on every CPU
    assert TrainerSettings(precision="bf16").runs_bf16()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert TrainerSettings().runs_bf16()
    assert not TrainerSettings(precision="fp32").runs_bf16()
