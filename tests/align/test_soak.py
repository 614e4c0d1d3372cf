"""The short form of the soak of training; the long one is `python benchmarks/soak_train.py --kills 200`."""

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak_train.py"


def test_training_killed_at_random_instants_ends_with_the_very_same_weights():
    command = [sys.executable, str(SOAK), "--kills", "3", "--kind", "all weights", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["kills"] >= 3
    assert result["runs_with_bit_identical_weights"] == result["runs_with_the_same_log"] == result["runs"] > 0
    assert result["damaged_checkpoints"] == 0
