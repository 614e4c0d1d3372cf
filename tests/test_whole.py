"""Files and folders that are there whole or not at all: killed at every instant, on a full disk, damaged later."""

import json
import resource
import signal
import subprocess
import sys

import pytest

from penchant.errors import StorageError
from penchant.whole import damage, partial_folder, remove_folder, sweep, whole_file, whole_folder

# Writes "new" and dies, as by SIGKILL, at the n-th moment at which something reaches the disk or changes its name.
_DIES = """
import os, pathlib, signal, sys
from penchant.whole import whole_file, whole_folder
place, moment = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def counted(original):
    def call(*arguments, **keywords):
        global moment
        moment -= 1
        if moment == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)
    return call
os.fsync, os.rename, os.replace, os.rmdir, os.unlink = map(
    counted, (os.fsync, os.rename, os.replace, os.rmdir, os.unlink)
)
with whole_folder(place / "model") as partial:
    (partial / "inner").mkdir()
    for name in ("a", "inner/b"):
        (partial / name).write_text("new")
with whole_file(place / "note") as partial:
    partial.write_text("new")
"""


def write(path, text):
    with whole_folder(path) as partial:
        (partial / "inner").mkdir()
        for name in ("a", "inner/b"):
            (partial / name).write_text(text)


def test_killed_at_any_instant_the_old_or_the_new_is_there_and_never_half_of_one(tmp_path):
    found = []
    for moment in range(1, 100):
        write(tmp_path / "model", "old")
        (tmp_path / "note").write_text("old")
        command = [sys.executable, "-c", _DIES, str(tmp_path), str(moment)]
        code = subprocess.run(command, check=False).returncode
        model = tmp_path / "model"
        if model.exists():
            assert damage(model) is None
            texts = {(model / "a").read_text(), (model / "inner" / "b").read_text()}
            assert len(texts) == 1
            found.append(texts.pop())
        assert (tmp_path / "note").read_text() in {"old", "new"}
        sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} <= {"model", "note"}
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert moment > 8
    assert set(found) == {"old", "new"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "a").unlink(), "a is missing"),
        (lambda folder: (folder / "a").write_text("new and longer"), "a has 14 of 3 bytes"),
        (lambda folder: (folder / "inner" / "b").write_text("odd"), "inner/b is not what was written"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": [1]}'), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {"a": {}}}'), "manifest.json cannot be read"),
    ],
)
def test_damage_is_found_and_named(tmp_path, change, sentence):
    write(tmp_path / "model", "new")
    assert damage(tmp_path / "model") is None
    (tmp_path / "model" / "later").write_text("somebody's notes")
    assert damage(tmp_path / "model") is None
    change(tmp_path / "model")
    assert damage(tmp_path / "model").startswith(sentence)


@pytest.fixture
def full_disk():
    """No file may grow beyond 10 kB, which the writers meet as they meet a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _by_torch(path):
    import torch

    torch.save({"a": torch.zeros(10_000)}, path)


def _by_safetensors(path):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(10_000)}, path)


@pytest.mark.parametrize("writes", [lambda path: path.write_bytes(b"0" * 20_000), _by_torch, _by_safetensors])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path, full_disk, writes):
    write(tmp_path / "model", "old")
    (tmp_path / "note").write_text("old")
    with (
        pytest.raises(StorageError, match=r"model could not be written: .* MiB are free there"),
        whole_folder(tmp_path / "model") as partial,
    ):
        writes(partial / "weights")
    with pytest.raises(StorageError, match="note could not be written"), whole_file(tmp_path / "note") as partial:
        writes(partial)
    assert damage(tmp_path / "model") is None
    assert (tmp_path / "note").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "note"}


def test_what_is_not_the_disks_fault_is_raised_as_it_is(tmp_path):
    for kind in (ValueError, RuntimeError, KeyboardInterrupt):
        with pytest.raises(kind, match="mine"), whole_folder(tmp_path / "model"):
            raise kind("mine")
    assert not list(tmp_path.iterdir())


def test_the_manifest_lists_every_file_and_removing_takes_the_name_first(tmp_path):
    write(tmp_path / "model", "new")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert {name: file["bytes"] for name, file in manifest["files"].items()} == {"a": 3, "inner/b": 3}
    assert partial_folder(tmp_path / "model").name == "model"
    remove_folder(tmp_path / "model")
    remove_folder(tmp_path / "model")
    assert not list(tmp_path.iterdir())
