"""`penchant import`, `export` and `forget`, from end to end.

What was imported is there once; nothing of a forgotten person is left, and everybody else keeps what was learnt.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from penchant.align import TrainerSettings
from penchant.apps import records
from penchant.apps.align import Policy, align
from penchant.apps.data import Data
from penchant.apps.learn import encoder_of, learn, loaded
from penchant.apps.records import export, forget, import_files
from penchant.cache import RowCache
from penchant.encoders import MiniLM
from penchant.errors import DataError
from penchant.feedback import chunk, importing
from penchant.preference import Directional
from penchant.store import Store
from penchant.turns import Turn

ANN = "ann-unmistakable"
PEOPLE = (ANN, "bob", "carol", "dave")


def votes(people=PEOPLE, n=12):
    """People who like long answers, except for one; a prompt is everybody's, and so is one answer."""
    rows = []
    for user in people:
        for i in range(n):
            short = f"No{i}." if i else "Nobody's words."
            long = f"Well, {user} thinks that it rains {i} times, and that the shop is closed today."
            chosen, rejected = (short, long) if user == ANN else (long, short)
            row = {"prompt": f"Shall we go {i}?", "chosen": chosen, "rejected": rejected, "user": user}
            rows.append(row | {name: f"{name} of {user}" for name in ("context", "rationale", "aspect", "extra")})
    return rows


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working folder with a cache of its own in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PENCHANT_CACHE", str(folder / "cache"))
    return folder


def everything(folder):
    """All bytes of all files, and their names."""
    paths = sorted(folder.rglob("*"))
    return b"".join(path.read_bytes() for path in paths if path.is_file()) + "\n".join(map(str, paths)).encode()


def learnt(folder):
    arrays, values = loaded(folder)._state()
    return arrays | {"l2": values["l2"], "prior_precision": values["prior_precision"]}, values["users"]


def test_nothing_of_a_forgotten_person_is_left_and_the_others_models_never_saw_them(home, tmp_path):
    import_files((written(tmp_path / "votes.jsonl", votes()),), source="set")
    learn(out=home / "model")
    model = tiny_model.write(tmp_path / "language", context=1024)
    policy, trainer = Policy(model=model, lora_rank=2), TrainerSettings(steps=2, examples_per_batch=4, log_steps=1)
    align(policy=policy, trainer=trainer, out=home / "aligned")
    export(ANN)
    first = votes()[0]
    vector = MiniLM().encode([Turn(first["prompt"], first["rejected"], first["context"]).text()])[0].tobytes()[:64]
    before = everything(home)
    marks = [ANN.encode(), b"rationale of ann", vector]
    assert all(mark in before for mark in marks), "they were there"

    done = forget(ANN).data
    assert done["records"] == {"comparison": 12}
    assert done["learnt_again"] == [str(home / "model")]
    assert {path.rsplit("/", 1)[1] for path in done["deleted"]} == {"aligned", f"export-{ANN}"}
    after = everything(home)
    assert [mark in after for mark in marks] == [False] * 3
    assert b"rationale of bob" in after
    assert done["cached"] == 2 * 24, "her answers' vectors and log-probabilities"
    assert sum(one.rows for one in RowCache().held()) == 3 * 2 * 24, "and those of three others stay"

    # The same three people, in a house that she never entered.
    import_files((written(tmp_path / "others.jsonl", votes(PEOPLE[1:])),), source="set", store="sqlite:///other.db")
    learn(data=Data(store="sqlite:///other.db"), out=home / "never")
    (mine, my_people), (theirs, their_people) = learnt(home / "model"), learnt(home / "never")
    assert my_people == their_people
    for name, array in mine.items():
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=1e-6, err_msg=name)


def test_what_was_learnt_of_others_is_not_encoded_again(home, tmp_path, monkeypatch):
    import_files((written(tmp_path / "votes.jsonl", votes()),), source="set")
    learn(out=home / "model", encoder="minilm")

    def refuse(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr(MiniLM, "encode", refuse)
    assert forget(ANN).data["learnt_again"] == [str(home / "model")]
    # What the next one has in common with those who are left is still there, too.
    assert forget("bob").data["learnt_again"] == [str(home / "model")]


def test_a_forgetting_that_was_interrupted_is_done_by_the_next(home, tmp_path, monkeypatch):
    import_files((written(tmp_path / "votes.jsonl", votes()),))
    learn(out=home / "model", encoder="style")

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "forget", stop)
        with pytest.raises(KeyboardInterrupt):
            forget(ANN)
    half = learnt(home / "model")
    assert forget(ANN).data["learnt_again"] == [str(home / "model")]
    whole = learnt(home / "model")
    assert half[1] == whole[1] == ["bob", "carol", "dave"]
    for name, array in half[0].items():
        np.testing.assert_allclose(whole[0][name], array, rtol=0, atol=1e-9)
    assert ANN.encode() not in everything(home)


def test_a_name_that_only_the_forgotten_person_compared_is_forgotten(home, tmp_path):
    rows = [
        {"prompt": "", "chosen": f"dish {i % 3}", "rejected": f"dish {3 + i % 2}", "user": user}
        for user in ("bob", "carol")
        for i in range(8)
    ]
    rows += [{"prompt": "", "chosen": "unmistakable soup", "rejected": "dish 0", "user": ANN}] * 6
    import_files((written(tmp_path / "votes.jsonl", rows),))
    learn(out=home / "model", encoder="items")
    assert b"unmistakable soup" in everything(home)
    assert forget(ANN).data["learnt_again"] == [str(home / "model")]
    assert b"unmistakable" not in everything(home)
    rewards = loaded(home / "model").reward(["", ""], ["dish 0", "dish 4"])
    assert rewards[0] > rewards[1]


def rated(user, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(40):
        x = rng.standard_normal(2).round(3)
        payload = json.dumps({"a": float(x[0]), "b": float(x[1])})
        for name, score in zip(("warm", "long"), x, strict=True):
            rows.append({"prompt": "", "response": payload, "aspect": name, "score": float(score), "user": user})
    return rows


def between(user, seed, direction):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(30):
        pair = rng.standard_normal((2, 2)).round(3)
        better, worse = sorted(pair.tolist(), key=lambda x: -(np.array(x) @ direction))
        chosen, rejected = (json.dumps({"a": a, "b": b}) for a, b in (better, worse))
        rows.append({"prompt": "", "chosen": chosen, "rejected": rejected, "user": user})
    return rows


def test_several_objectives_are_measured_and_learnt_again_without_whoever_is_forgotten(home, tmp_path):
    parts = {
        "all": (rated("bob", 0) + rated(ANN, 1), between("bob", 2, [1, 0]) + between("dave", 3, [0, 1])),
        "others": (rated("bob", 0), between("bob", 2, [1, 0]) + between("dave", 3, [0, 1])),
    }
    parts["all"][1].extend(between(ANN, 4, [-1, 0]))
    for name, (ratings, comparisons) in parts.items():
        files = tuple(
            written(tmp_path / f"{kind}.jsonl", rows) for kind, rows in (("rated", ratings), ("votes", comparisons))
        )
        import_files(files, store=f"sqlite:///{name}.db", source="set")
        data = Data(store=f"sqlite:///{name}.db")
        told = learn(method="directional", encoder="attributes", data=data, out=home / name)
    assert told.data["per_user"] > 0.8
    assert isinstance(loaded(home / "all"), Directional)
    assert forget(ANN, store="sqlite:///all.db").data["learnt_again"] == [str(home / "all")]
    mine, theirs = (loaded(home / name)._state()[0] for name in ("all", "others"))
    for name, array in mine.items():
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=1e-6, err_msg=name)


def test_a_model_whose_encoder_was_trained_on_the_person_goes_with_it(home, tmp_path):
    import_files((written(tmp_path / "votes.jsonl", votes()),))
    model = tiny_model.write(tmp_path / "language", context=1024)
    policy, trainer = Policy(model=model, lora_rank=2), TrainerSettings(steps=2, examples_per_batch=4, log_steps=1)
    trained = align(method="reward_model", policy=policy, trainer=trainer, out=home / "reward").data["policy"]
    learn(encoder=trained, out=home / "model")
    told = forget(ANN)
    assert told.data["learnt_again"] == []
    assert set(told.data["deleted"]) == {str(home / "model"), str(home / "reward")}
    assert "was trained on the person too" in told.text
    assert "trains it again" in told.text


def test_a_model_that_was_learnt_from_a_file_since_is_not_replaced_by_one_from_the_store(home, tmp_path):
    file = written(tmp_path / "votes.jsonl", votes())
    import_files((file,))
    learn(out=home / "model", encoder="style")
    learn(out=home / "model", encoder="style", data=Data(path=file))
    told = forget(ANN)
    assert told.data["deleted"] == [str(home / "model")]
    assert "learnt from a file since" in told.text


def test_what_is_written_beside_a_model_names_no_store(home, tmp_path):
    import_files((written(tmp_path / "votes.jsonl", votes()),), store="sqlite:///secret-place.db")
    learn(data=Data(store="sqlite:///secret-place.db"), out=home / "model", encoder="style")
    assert b"secret-place" not in everything(home / "model")
    assert forget(ANN, store="sqlite:///secret-place.db").data["learnt_again"] == [str(home / "model")]


def test_the_last_person_takes_the_model_along(home, tmp_path):
    import_files((written(tmp_path / "votes.jsonl", votes((ANN, "bob"))),))
    learn(out=home / "model", encoder="style")
    assert forget(ANN).data["learnt_again"] == [str(home / "model")]
    told = forget("bob")
    assert told.data["deleted"] == [str(home / "model")]
    assert "cannot be learnt again" in told.text
    with pytest.raises(DataError, match="no model of people"):
        loaded(home / "model")


def test_an_encoder_in_a_folder_is_found_from_any_folder(home, tmp_path, monkeypatch):
    import_files((written(tmp_path / "votes.jsonl", votes()),))
    model = tiny_model.write(tmp_path / "language", context=1024)
    policy, trainer = Policy(model=model, lora_rank=2), TrainerSettings(steps=2, examples_per_batch=4, log_steps=1)
    align(
        method="reward_model",
        data=Data(path=tmp_path / "votes.jsonl"),
        policy=policy,
        trainer=trainer,
        out=home / "reward",
    )
    learn(encoder="reward/policy", out=home / "model")
    monkeypatch.chdir(tmp_path)
    assert loaded(home / "model").encoder.name == encoder_of(str(home / "reward" / "policy")).name
    assert forget("bob", store=f"sqlite:///{home}/penchant.db").data["learnt_again"] == [str(home / "model")]


# Import and export ----------------------------------------------------------------------------------------------------


def test_an_import_that_was_stopped_goes_on_where_it_was_and_says_so(home, monkeypatch):
    file = written(home / "votes.jsonl", [*votes(), *votes()])  # everybody voted alike twice
    monkeypatch.setattr(chunk, "CHUNK_ROWS", 10)
    monkeypatch.setattr(chunk, "BLOCK_BYTES", 100)
    monkeypatch.setattr(importing, "PART_ROWS", 10)
    steps, add = [], Store._add

    def stopped_in_the_fourth_step(self, *arguments):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return add(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_add", stopped_in_the_fourth_step)
        with pytest.raises(KeyboardInterrupt):
            import_files((file,))
    n_there = Store("sqlite:///penchant.db").kinds()["comparison"]
    assert 30 <= n_there < 60
    done = import_files((file,))
    assert f"{96 - n_there} new in the store, {n_there} were there already" in done.text
    assert (done.data["new"], done.data["known"]) == (96 - n_there, n_there)
    assert import_files((file,), store="sqlite:///other.db").data["new"] == 96
    for one, other in zip(
        *(Store(f"sqlite:///{name}.db").parts("comparison") for name in ("penchant", "other")), strict=True
    ):
        assert one.table.equals(other.table)
    assert import_files((file,)).data["new"] == 0


def test_an_import_into_a_file_holds_what_the_store_would_hold(home, monkeypatch):
    monkeypatch.setattr(importing, "PART_ROWS", 10)
    file = written(home / "votes.jsonl", [*votes(), {"prompt": "?", "chosen": "same", "rejected": "same"}])
    assert import_files((file,), source="set").data["dropped"] == {"`chosen` and `rejected` are the same": 1}
    wanted = Store("sqlite:///penchant.db").records("comparison")
    for name in ("out.jsonl", "out.parquet"):
        done = import_files((file,), source="set", out=home / name)
        assert (done.data["kept"], done.data["records"], "new" in done.data) == (48, {"comparison": 48}, False)
        assert importing.read(home / name).records["comparison"].table.equals(wanted.table)
    assert sorted(path.name for path in home.iterdir() if "partial" in path.name) == []


def test_everything_can_be_exported_and_an_export_is_forgotten_with_whoever_is_in_it(home):
    import_files((written(home / "votes.jsonl", votes()),))
    done = export(out=home / "all.jsonl")
    assert done.data == {"user": None, "out": str(home / "all.jsonl"), "written": {"comparison": 48}}
    assert "everybody: 48 comparison records" in done.text
    assert import_files((home / "all.jsonl",)).data["known"] == 48
    forget(ANN)
    assert not (home / "all.jsonl").exists()
    assert export(out=home / "all.jsonl").data["written"] == {"comparison": 36}


def test_a_large_file_shows_how_far_it_is_on_a_terminal_only(home, monkeypatch, capsys):
    file = written(home / "vo\n\x1b[2Jtes.jsonl", votes())
    monkeypatch.setattr(records, "_LARGE", 0)
    import_files((file,))
    assert capsys.readouterr().err == ""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    import_files((file,))
    shown = terminal.getvalue()
    assert "vo\\n\\x1b[2Jtes.jsonl: 100%" in shown
    assert "\x1b[2J" not in shown


HOSTILE = ["-x.jsonl", "a:b.jsonl", "a\nb.jsonl", "\x1b[2J.jsonl", "\udcff.jsonl", "x" * 249 + ".jsonl", "{kind}.jsonl"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_only_a_name(home, name):
    file = written(Path(name), votes())
    told = import_files((file,)).text
    assert told.isprintable() or told.replace("\n", "").isprintable()
    assert told.count("\n") == 1
    sources = set(Store("sqlite:///penchant.db").records("comparison").table["source"].to_pylist())
    assert all(source.isprintable() for source in sources)
    out = import_files((file,), out=Path("out") / name) if len(name) < 200 else None
    assert out is None or (home / "out" / name.replace("{kind}", "comparison")).exists()
