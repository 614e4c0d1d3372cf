"""The trainer: its first gradient, and the runs that must end with the same weights."""

import json
import os
import resource
import shutil
import signal

import pytest
import torch
import transformers
from tiny_language import TinyPolicy, by_hand, comparisons
from torch.optim.optimizer import register_optimizer_step_pre_hook

from penchant.align import DPO, Supervised, TrainerSettings, train
from penchant.align.batches import encode
from penchant.align.checkpoints import held
from penchant.align.reference import reference_log_probabilities
from penchant.cache import RowCache
from penchant.errors import DataError, MissingExtraError, SettingsError, StorageError
from penchant.policies import log_probabilities as kept
from penchant.whole import damage, whole_folder

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
    for got, wanted in zip(seen[-1], expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def back_to(folder, step):
    """What a kill some time after the checkpoint of a step leaves of a run that kept them all."""
    run_file = folder / "run.json"
    run_file.write_text(json.dumps({k: v for k, v in json.loads(run_file.read_text()).items() if k != "result"}))
    shutil.rmtree(folder / "policy")
    for path in folder.glob("checkpoint-*"):
        if int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        ({"dropout": 0.2}, {}),
        ({"dropout": 0.2}, {"examples_per_batch": 4, "accumulation": 2}),
        ({"dropout": 0.2, "lora_rank": 4}, {"schedule": "cosine", "weight_decay": 0.1}),
        ({"dropout": 0.2}, {"held_out": comparisons(6, seed=5), "eval_steps": 2}),
        ({"dropout": 0.2}, {"precision": "bf16"}),
    ],
    ids=["plain", "accumulated", "lora", "evaluated", "bf16"],
)
def test_a_run_resumed_from_any_checkpoint_ends_with_the_very_same_weights(tmp_path, policy, changes):
    keep = {"steps": 5, "save_steps": 1, "log_steps": 3, "keep_checkpoints": None, **changes}
    whole, first = run(tmp_path, TinyPolicy(**policy), **keep)
    for step in (4, 3, 1):
        back_to(tmp_path, step)
        again, result = run(tmp_path, TinyPolicy(**policy), **keep)
        assert result.resumed_from == step
        assert torch.equal(again, whole)
        assert result.history[:-1] == first.history[:-1]  # the last line is how long it took
    assert not torch.equal(whole, TinyPolicy(**policy).weights())


def test_early_stopping_ends_alike_wherever_it_is_resumed_even_once_it_has_decided(tmp_path):
    changes = contrary() | {"eval_steps": 1, "steps": 30, "patience": 3, "keep_checkpoints": None}
    best, first = run(tmp_path, TinyPolicy(dropout=0.2), **changes)
    assert first.steps < 30
    for step in (first.steps, first.steps - 1, 1):
        back_to(tmp_path, step)
        moved = tmp_path.rename(tmp_path.with_name(f"from-{step}"))  # the best checkpoint is found there too
        again, result = run(moved, TinyPolicy(dropout=0.2), **changes)
        assert (result.steps, result.resumed_from) == (first.steps, step)
        assert torch.equal(again, best)
        moved.rename(tmp_path)


def test_a_damaged_checkpoint_is_skipped_for_the_one_before_and_the_run_says_so(tmp_path, capfd):
    changes = {"save_steps": 1, "keep_checkpoints": 3}
    whole, _ = run(tmp_path, **changes)
    back_to(tmp_path, 4)
    weights = tmp_path / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "checkpoint-3" / "optimizer.pt").unlink()
    again, result = run(tmp_path, **changes)
    assert torch.equal(again, whole)
    assert result.begun.startswith("resumed from step 2 of 4 (3 checkpoints found, 2 damaged: skipped checkpoint-4, ")
    assert "because model.safetensors has 1,000 of" in result.begun
    assert "checkpoint-3, because optimizer.pt is missing" in result.begun
    assert result.begun in capfd.readouterr().err  # though it shows no progress
    assert damage(tmp_path / "checkpoint-4") is None
    (tmp_path / "checkpoint-4" / "rng_state.pth").unlink()
    with pytest.raises(StorageError, match=r"checkpoint-4 is damaged: rng_state.pth is missing"):
        run(tmp_path, resume=4, **changes)


def test_a_best_checkpoint_that_is_damaged_takes_those_with_it_that_rely_on_it(tmp_path):
    changes = contrary() | {"eval_steps": 1, "steps": 30, "patience": 2, "keep_checkpoints": None}
    best, _ = run(tmp_path, **changes)  # step 1 was best, step 3 the last
    back_to(tmp_path, 3)
    (tmp_path / "checkpoint-1" / "model.safetensors").write_bytes(b"0")
    again, result = run(tmp_path, **changes)
    assert "checkpoint-3, because checkpoint-1, the best until then, is damaged" in result.begun
    assert result.begun.startswith("starts anew")
    assert torch.equal(again, best)


def test_a_finished_run_is_not_trained_again_and_says_so(tmp_path, monkeypatch):
    whole, first = run(tmp_path, TinyPolicy(lora_rank=4), log_steps=2)
    assert first.begun == "starts anew"
    assert not list(tmp_path.glob("checkpoint-*"))  # shorter than save_minutes: the policy is all there is to keep
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr("transformers.Trainer.training_step", None)
    again, result = run(tmp_path, TinyPolicy(lora_rank=4), log_steps=2)
    assert torch.equal(again, whole)
    assert result.begun == "finished before, at step 4 of 4: nothing was trained"
    assert (result.loss, result.history) == (first.loss, first.history)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_kill_while_the_policy_is_saved_is_healed_by_the_same_call(tmp_path):
    whole, first = run(tmp_path)
    (tmp_path / "policy" / "model.safetensors").unlink()
    (tmp_path / ".partial" / "policy").mkdir(parents=True)  # what a killed process leaves
    (tmp_path / "reference-train.safetensors.123.partial").touch()
    again, result = run(tmp_path)
    assert result.begun == "starts anew (1 damaged: skipped policy, because model.safetensors is missing)"
    assert torch.equal(again, whole)
    assert result.history[:4] == first.history[:4]
    assert not list(tmp_path.rglob("*partial*"))


def test_checkpoints_come_by_the_clock_and_only_the_newest_stay(tmp_path):
    for n_kept, stay in ((2, {2, 3}), (1, {3}), (0, set()), (None, {1, 2, 3})):
        folder = tmp_path / str(n_kept)
        _, result = run(folder, save_minutes=1e-9, keep_checkpoints=n_kept)
        assert {int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")} == stay
        assert damage(result.policy) is None
    assert not list((tmp_path / "0").glob("checkpoint-*"))
    run(tmp_path / "never", save_minutes=None)
    assert not list((tmp_path / "never").glob("checkpoint-*"))


def test_an_older_checkpoint_goes_only_once_the_new_one_is_whole(tmp_path, monkeypatch):
    there = []
    original = transformers.Trainer._save_checkpoint

    def watched(self, *arguments):
        there.append([damage(path) for path in tmp_path.glob("checkpoint-*")])
        original(self, *arguments)
        there.append([damage(path) for path in tmp_path.glob("checkpoint-*")])

    monkeypatch.setattr(transformers.Trainer, "_save_checkpoint", watched)
    run(tmp_path, save_steps=1, keep_checkpoints=1)
    assert there == [[], [], *[[None]] * 6]


def test_a_checkpoint_is_a_policy_and_of_adapters_holds_nothing_else(tmp_path):
    run(tmp_path, TinyPolicy(lora_rank=2), save_steps=2)
    names = {path.name for path in (tmp_path / "checkpoint-2").iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "manifest.json"} <= names
    assert not names & {"model.safetensors", "training_args.bin"}


@pytest.mark.parametrize(
    ("name", "instead_of", "lora_rank"),
    [
        ("optimizer.pt", "optimizer.pt", None),
        ("scheduler.pt", "scheduler.pt", None),
        ("rng_state.pth", "rng_state.pth", None),
        ("pytorch_model.bin", "model.safetensors", None),
        ("adapter_model.bin", "adapter_model.safetensors", 2),
    ],
)
def test_a_hostile_checkpoint_runs_no_code_even_if_its_manifest_fits(tmp_path, name, instead_of, lora_rank):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    run(tmp_path, TinyPolicy(lora_rank=lora_rank), steps=3, save_steps=1)
    back_to(tmp_path, 2)
    found = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-2").iterdir()}
    del found[instead_of], found["manifest.json"]
    with whole_folder(tmp_path / "checkpoint-2") as partial:
        for other, content in found.items():
            (partial / other).write_bytes(content)
        torch.save({"state": Hostile()}, partial / name)
    with pytest.raises(StorageError, match=r"checkpoint-2 holds something else than numbers, and was not loaded"):
        run(tmp_path, TinyPolicy(lora_rank=lora_rank), steps=3, save_steps=1)
    assert not (tmp_path / "was here").exists()


def test_a_folder_inside_a_checkpoint_is_not_looked_into(tmp_path):
    run(tmp_path, steps=3, save_steps=1, keep_checkpoints=None)
    back_to(tmp_path, 2)
    shutil.copytree(tmp_path / "checkpoint-2", tmp_path / "checkpoint-2" / "other")
    _, result = run(tmp_path, steps=3, save_steps=1)
    assert "checkpoint-2, because it holds a folder that no run wrote, 'other'" in result.begun
    assert result.resumed_from == 1


def test_a_full_disk_stops_the_run_with_a_sentence_and_leaves_the_last_checkpoint(tmp_path):
    whole, _ = run(tmp_path / "whole")

    class Filled(DPO):
        calls = 0

        def loss(self, *arguments):
            self.calls += 1
            if self.calls == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
            return super().loss(*arguments)

    Filled.__module__, Filled.__qualname__ = DPO.__module__, DPO.__qualname__
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(StorageError, match=r"checkpoint-3 could not be written: .*run the same command again"):
            run(tmp_path / "full", aligner=Filled(beta=BETA), save_steps=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: damage(path) for path in (tmp_path / "full").glob("check*")} == {
        "checkpoint-1": None,
        "checkpoint-2": None,
    }
    assert not list((tmp_path / "full").rglob("*partial*"))
    again, result = run(tmp_path / "full", save_steps=1)
    assert result.resumed_from == 2
    assert torch.equal(again, whole)


def test_two_runs_never_share_a_folder_at_once(tmp_path):
    class Meddled(DPO):
        def loss(self, *arguments):
            with pytest.raises(SettingsError, match="Another process is training in"), held(tmp_path):
                pass
            return super().loss(*arguments)

    run(tmp_path, aligner=Meddled(beta=BETA), steps=1)
    with held(tmp_path):
        pass


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
    assert damage(tmp_path / "b" / "checkpoint-2") is None

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


def test_a_reference_that_was_damaged_is_not_taken_for_another(tmp_path):
    whole, _ = run(tmp_path, save_steps=2, keep_checkpoints=None)
    back_to(tmp_path, 2)
    path = tmp_path / "reference-train.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"reference-train\.safetensors is not what was written"):
        run(tmp_path, save_steps=2, keep_checkpoints=None)
    path.unlink()
    again, _ = run(tmp_path, save_steps=2, keep_checkpoints=None)
    assert torch.equal(again, whole)


@pytest.mark.parametrize("saving", [{}, {"save_steps": 1}])
def test_a_folder_is_not_shared_by_different_runs(tmp_path, saving):
    run(tmp_path, steps=2, **saving)
    if saving:
        back_to(tmp_path, 1)
    with pytest.raises(SettingsError, match=r"trainer\.learning_rate was 0.003 and is 0.1"):
        run(tmp_path, steps=2, learning_rate=0.1)
    with pytest.raises(SettingsError, match=r"settings\.beta"):
        run(tmp_path, steps=2, aligner=DPO(beta=0.2))
    with pytest.raises(SettingsError, match="other rows"):
        run(tmp_path, steps=2, records=comparisons(seed=9))
    with pytest.raises(SettingsError, match=r"policy\.frozen"):
        run(tmp_path, TinyPolicy(lora_rank=2), steps=2)
    with pytest.raises(SettingsError, match="already holds a run"):
        run(tmp_path, steps=2, resume=False)
    with pytest.raises(SettingsError, match="no checkpoint of step 7"):
        run(tmp_path, steps=2, resume=7)


def contrary():
    """Settings of a run whose held-out loss rises from its first step on."""
    records = comparisons(strengths=(1.0,))
    swapped = {"chosen": "rejected", "rejected": "chosen"}
    names = [swapped.get(name, name) for name in records.table.column_names]
    held_out = type(records)(records.table.rename_columns(names))
    return {"records": records, "held_out": held_out, "schedule": "constant", "warmup": 0.0}


def test_early_stopping_leaves_the_weights_of_the_lowest_held_out_loss(tmp_path):
    changes = contrary() | {"eval_steps": 1}
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
        {"save_minutes": 0.0},
        {"keep_checkpoints": -1},
        {"fsdp": {"state_dict_type": "SHARDED_STATE_DICT"}},
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
