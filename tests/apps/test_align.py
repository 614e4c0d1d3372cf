"""`penchant align` end to end on a tiny model: what each method reads, and what its result is good for."""

import json

import pytest
import tiny_model

from penchant.align import DPO, RewardModel, Supervised, TrainerSettings
from penchant.apps.align import Policy, align
from penchant.apps.data import Data
from penchant.apps.learn import encoder_of, learn, loaded
from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.feedback.lessons import comparisons, critique_lessons
from penchant.records import Comparisons, Conversations, Rankings, canonical_json

TRAINER = TrainerSettings(steps=2, examples_per_batch=4, log_steps=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("model"), context=1024)


@pytest.fixture
def votes(tmp_path):
    rows = [
        {"prompt": f"q{i % 4}", "chosen": "yes " * (1 + i % 3), "rejected": f"no {i}", "user": f"u{i % 3}"}
        for i in range(48)
    ]
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_reward_model_is_trained_and_then_serves_a_model_of_each_person(model, votes, tmp_path, own_cache):
    trained = align(
        method="reward_model",
        data=Data(path=votes),
        policy=Policy(model=model, lora_rank=2),
        trainer=TRAINER,
        out=tmp_path / "reward",
    ).data
    assert (trained["examples"], trained["steps"]) == (48, 2)
    learnt = learn(data=Data(path=votes), encoder=trained["policy"], out=tmp_path / "people").data
    assert learnt["people"] == 3
    assert learnt["one_for_all"] > 0.9, "yes and no are told apart"
    with pytest.raises(UnknownNameError, match="minilm"):
        encoder_of("minilmm")


def test_a_finished_run_is_told_from_a_new_one_and_a_moved_record_is_written_again(model, votes, tmp_path, own_cache):
    run = {"data": Data(path=votes), "policy": Policy(model=model), "trainer": TRAINER, "out": tmp_path / "aligned"}
    first = align(**run)
    assert first.text.startswith("dpo: 48 examples, 2 steps, starts anew\n")
    files = {path: path.read_bytes() for path in (tmp_path / "aligned").glob("*.*") if path.is_file()}
    (tmp_path / "aligned" / "result.json").unlink()  # as by a kill between the policy and the command's own record
    again = align(**run)
    assert again.text.startswith("dpo: 48 examples, 2 steps, finished before, at step 2 of 2: nothing was trained\n")
    assert again.data == first.data
    assert {path: path.read_bytes() for path in files} == files
    with pytest.raises(SettingsError, match="already holds a run"):
        align(**run, resume=False)


def test_of_several_processes_one_writes(model, votes, tmp_path, own_cache, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    align(data=Data(path=votes), policy=Policy(model=model), trainer=TRAINER, out=tmp_path / "aligned")
    assert not list((tmp_path / "aligned").glob("*.yaml"))
    assert not (tmp_path / "aligned" / "result.json").exists()


def test_what_a_method_reads_is_taken_as_it_is_and_the_rest_is_counted(tmp_path):
    lists = [{"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]}]
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lists))
    data = Data(path=path)
    for method in (DPO, RewardModel, Supervised):
        found, dropped = data.of_kinds(method.reads)
        assert isinstance(found, Rankings)
        assert dropped == {}
    pairs, _ = data.of_kinds((Comparisons,))
    assert len(pairs) == 3
    talk = tmp_path / "talk.jsonl"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    talk.write_text(json.dumps({"messages": messages}) + "\n")
    assert isinstance(Data(path=talk).of_kinds(Supervised.reads)[0], Conversations)
    with pytest.raises(DataError, match="no comparisons"):
        Data(path=talk).of_kinds(DPO.reads)


def test_votes_between_systems_are_learnt_as_names_and_never_trained_on_as_texts(tmp_path, own_cache):
    path = tmp_path / "battles.jsonl"
    rows = [
        {"model_a": "alpha", "model_b": "beta", "winner": "model_a" if i % 4 else "model_b", "judge": f"u{i % 3}"}
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for reads in (DPO.reads, Supervised.reads):
        with pytest.raises(DataError, match="--encoder items"):
            Data(path=path).of_kinds(reads)
    with pytest.raises(DataError, match="--encoder items"):
        learn(data=Data(path=path), encoder="style", out=tmp_path / "people")
    learnt = learn(data=Data(path=path), out=tmp_path / "people").data  # what they are is seen by themselves
    assert learnt["people"] == 3
    assert loaded(tmp_path / "people").reward(["", ""], ["alpha", "beta"]).argmax() == 0


def records():
    """Two finished records as `Critiques.build` writes them."""

    def answer(text, score):
        return {
            "response": text,
            "model": "m",
            "principle": "helpfulness",
            "annotations": {},
            "critique": f"It says {text}.",
            "overall_score": score,
            "fine-grained_score": score / 2,
        }

    return [
        {"instruction": f"q{i}", "source": "flan", "completions": [answer("good", 8.0), answer("bad", 2.0)]}
        for i in range(4)
    ]


def test_a_reward_model_and_a_critique_model_are_trained_from_the_records_of_a_judge(model, tmp_path, own_cache):
    pairs, dropped = comparisons(records())
    assert (len(pairs), dropped) == (4, {})
    lessons = critique_lessons(records())
    assert len(lessons) == 8
    for method, table in (("reward_model", pairs), ("supervised", lessons)):
        path = tmp_path / f"{method}.jsonl"
        rows = table.table.to_pylist()
        if method == "supervised":
            rows = [{"messages": json.loads(row["messages"])} for row in rows]
        path.write_text("".join(canonical_json({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows))
        settings = {"margin": "strength"} if method == "reward_model" else {"per_token": True}
        result = align(
            method=method,
            data=Data(path=path),
            policy=Policy(model=model, lora_rank=None),
            settings=settings,
            trainer=TRAINER,
            out=tmp_path / method,
        ).data
        assert result["examples"] == len(table)
        assert result["loss"] > 0
