"""Two processes, side by side or sharded, end with the weights of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_model
from one_of_two import run
from safetensors.torch import load_file

from penchant.align import DPO, TrainerSettings, train
from penchant.apps.align import Policy, align
from penchant.apps.data import Data
from penchant.errors import SettingsError
from penchant.policies import LanguagePolicy


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
            "GLOO_SOCKET_IFNAME": "lo",
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


def largest_difference(one, other, name="model.safetensors"):
    first, second = (load_file(policy / name) for policy in (one, other))
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


def test_the_command_goes_on_when_one_of_its_sharded_processes_is_killed_and_speaks_with_one_voice(tmp_path):
    model = tiny_model.write(tmp_path / "model")
    rows = [{"prompt": f"q{i % 7}", "chosen": "yes " * (1 + i % 3), "rejected": f"no {i}"} for i in range(24)]
    votes = tmp_path / "votes.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trainer = TrainerSettings(steps=5, examples_per_batch=5, learning_rate=3e-3, log_steps=1)
    command = [
        *(
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
        ),
        *(
            "-m",
            "penchant",
            "align",
            "--method",
            "one_of_two.DiesOnce",
            "--data.path",
            str(votes),
            "--policy.model",
            model,
        ),
        *("--policy.lora-rank", "2", "--trainer.steps", "5", "--trainer.examples-per-batch", "5"),
        *("--trainer.save-steps", "1", "--trainer.learning-rate", "3e-3", "--trainer.log-steps", "1"),
        *("--trainer.held-out", "0", "--trainer.fsdp", "{}", "--out", str(tmp_path / "two"), "--json", "-"),
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",  # what the machine's own name resolves to may not be reachable
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    killed, done = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=False) for _ in range(2)
    ]
    assert killed.returncode != 0  # the other process does not wait for the one that was killed
    assert killed.stderr.count("penchant: ") == killed.stderr.count("starts anew") == 1
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 5  # one line, though there are two processes
    assert done.stderr.count(f"penchant: {tmp_path / 'two'}: resumed from step 2 of 5") == 1
    alone = align(
        method="one_of_two.DiesOnce",
        data=Data(path=votes),
        policy=Policy(model=model, lora_rank=2),
        trainer=trainer,
        out=tmp_path / "one",
    ).data
    names = "adapter_model.safetensors"
    assert largest_difference(Path(alone["policy"]), tmp_path / "two" / "policy", names) < 1e-4
    again = LanguagePolicy.saved(tmp_path / "two" / "policy")  # whole, though it was trained in shares
    assert again.has_adapters


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
