"""Two processes, side by side or sharded, end with the weights of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from one_of_two import run
from safetensors.torch import load_file

from penchant.align import DPO, TrainerSettings, train
from penchant.errors import SettingsError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder in which two processes have trained, in parallel and then sharded."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "PENCHANT_CACHE": str(folder / f"cache-{rank}"),
        }
        command = [sys.executable, str(Path(__file__).with_name("one_of_two.py")), str(folder)]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    said = [process.communicate(timeout=300)[0] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-3000:]
    return folder


def largest_difference(one, other):
    first, second = (load_file(policy / "model.safetensors") for policy in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_two_processes_train_like_one(trained, tmp_path):
    _, alone = run(tmp_path)  # 7 examples a step: the two have unequal shares
    assert largest_difference(alone.policy, trained / "parallel" / "policy") < 1e-5
    for rank in range(2):
        assert float((trained / f"held-out-{rank}").read_text()) == pytest.approx(alone.held_out_loss, rel=1e-5)


def test_two_sharded_processes_train_like_one(trained, tmp_path):
    _, alone = run(tmp_path)
    assert largest_difference(alone.policy, trained / "sharded" / "policy") < 1e-4


def test_sharding_that_would_silently_not_happen_is_an_error(tmp_path):
    from tiny_language import TinyPolicy, comparisons

    with pytest.raises((SettingsError, ValueError), match=r"fsdp"):
        train(
            DPO(),
            TinyPolicy(),
            comparisons(),
            settings=TrainerSettings(steps=1, fsdp={}),
            folder=tmp_path,
            progress=False,
        )
