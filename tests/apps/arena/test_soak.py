"""A server that is killed while people vote loses nothing that it acknowledged; the long form is in benchmarks/."""

import json
import subprocess
import sys
from pathlib import Path

from arena_server import environment


def test_no_acknowledged_vote_is_lost_or_doubled_by_a_kill():
    script = Path(__file__).parents[3] / "benchmarks" / "arena.py"
    command = [sys.executable, str(script), "--quick", "--only", "soak", "--kills", "4", "--json", "-"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    soak = json.loads(done.stdout.splitlines()[-1])["soak"]
    assert (soak["lost"], soak["doubled"], soak["wrong"], soak["kills"]) == (0, 0, 0, 4)
    assert soak["acknowledged"] > 0
