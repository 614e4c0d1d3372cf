"""The README says what was measured, and the commands it names exist and run."""

import functools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from penchant.apps.tables import benchmarks_table, methods_table, people_table
from penchant.cli import COMMANDS, GROUPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def measured():
    """The tables of the README by name."""
    return {
        "methods": methods_table(RESULTS),
        "people": people_table(RESULTS / "one_for_all.json"),
        "benchmarks": benchmarks_table(ROOT / "docs" / "benchmarks"),
    }


def between(name):
    return README.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0].strip()


def test_the_tables_are_those_that_were_measured():
    """To renew them: python tests/test_readme.py."""
    for name, table in measured().items():
        assert between(name) == table


@functools.cache
def explained(name):
    return subprocess.run(
        [sys.executable, "-m", "penchant", *name.split(), "--help"], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_exists_and_its_options_too(page):
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^penchant .*$", "\n".join(blocks), re.MULTILINE):
        words = shlex.split(line, comments=True)
        name = " ".join(words[1:3]) if words[1] in GROUPS else words[1]
        assert name in COMMANDS, line
        options = [word.split("=")[0] for word in words if word.startswith("--") and ".settings" not in word]
        free = [option for option in options if option.startswith("--settings.")]
        for option in set(options) - set(free):
            assert option in explained(name), f"{line}: {option}"


def test_the_readmes_commands_run_on_a_file_of_ones_own(tmp_path, own_cache):
    lines = ["user_id,item,text,rating"]
    for i in range(12):
        lines += [f"alice,s{i},Short {i}.,5", f"alice,l{i},A long and winding answer about the number {i} of all,1"]
        lines += [f"bob,s{i},Short {i}.,2", f"bob,l{i},A long and winding answer about the number {i} of all,4"]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    mapping = 'kind: rating\nresponse: text\nscore: rating\nuser: user_id\nconstants: {prompt: ""}\n'
    (tmp_path / "mapping.yaml").write_text(mapping)

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "penchant", *words, "--json", "-"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert run("import", "ratings.csv", "--mapping", "mapping.yaml")["kept"] == 48
    assert run("learn", "--encoder", "style", "--out", "model")["per_user"] > 0.9
    assert run("export", "alice")["written"] == {"rating": 24}
    assert run("forget", "alice")["learnt_again"] == [str(tmp_path / "model")]
    assert not (tmp_path / "export-alice").exists()


def renewed() -> str:
    """The README with its tables as they were measured."""
    text = README
    for name, table in measured().items():
        head, rest = text.split(f"<!-- {name} -->\n")
        text = f"{head}<!-- {name} -->\n{table}\n<!-- /{name} -->{rest.split(f'<!-- /{name} -->')[1]}"
    return text


if __name__ == "__main__":
    (ROOT / "README.md").write_text(renewed(), encoding="utf-8")
