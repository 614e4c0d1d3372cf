"""The command line as people and scripts use it: forms, exit codes, and what a mistake is answered with."""

import json
import subprocess
import sys

import pytest

from penchant import cli

RUN = [sys.executable, "-W", "error", "-m", "penchant"]


def run(*arguments, cwd=None):
    done = subprocess.run([*RUN, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def votes(tmp_path):
    """Two people who want the opposite, as a file in the usual form."""
    path = tmp_path / "votes.jsonl"
    short, long = "No.", "No, because it is late, it rains, and the shop is closed today anyway."
    rows = []
    for i in range(12):
        for user, chosen, rejected in (("ann", short, long), ("bob", long, short)):
            rows.append(
                {"prompt": f"Shall we go {i}?", "chosen": f"{chosen} {i}", "rejected": f"{rejected} {i}", "user": user}
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_help_and_import_load_neither_torch_nor_arrow():
    code = (
        "import sys\nimport penchant\nfrom click.testing import CliRunner\nfrom penchant.cli import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself_and_all_its_options(called, name):
    code, out, _ = called(*name.split(), "--help")
    assert code == 0
    assert "--print-config" in out
    for option in out.split("Options:")[1].split("\n  --")[1:]:
        assert len(option.split()) > 3, f"{name}: --{option} has no help"


def test_an_unknown_command_names_the_nearest():
    code, _, err = run("lern")
    assert code == 2
    assert "'learn'" in err


def test_an_unknown_setting_names_the_nearest_without_a_traceback(called):
    code, _, err = called("learn", "--settings.l3", "1", "--data.path", "x")
    assert code == 2
    assert "Traceback" not in err


def test_options_may_be_written_as_in_yaml(called):
    one, other = (
        called("align", f"--policy.{name}", "3", "--settings.label_smoothing", "0.1", "--print-config")
        for name in ("lora-rank", "lora_rank")
    )
    assert one == other
    assert "lora_rank: 3" in one[1]
    code, _, said = called("align", "--policy.lora_rnk", "3")
    assert code == 2
    assert "did you mean '--policy.lora-rank'" in said


def test_the_config_that_is_printed_is_the_config_that_is_read(called, tmp_path):
    code, printed, _ = called("learn", "--data.path", "v.jsonl", "--settings.l2", "0.5", "--print-config")
    assert code == 0
    (tmp_path / "c.yaml").write_text(printed)
    assert called("learn", "--config", "c.yaml", "--print-config") == (0, printed, "")


def test_a_file_that_is_not_there_is_one_sentence(called):
    code, _, err = called("import", "nowhere.jsonl")
    assert code == 2
    assert "nowhere.jsonl" in err
    assert "Traceback" not in err


def test_import_ends_with_the_line_that_scripts_read_and_twice_adds_nothing(called, votes):
    with votes.open("a") as file:
        file.write("{broken\n")
    code, out, err = called("import", votes, "--format", "auto", "--store", "sqlite:///r.db", "--json", "-")
    line = json.loads(out.splitlines()[-1])
    assert code == 0
    assert line["kept"] == 24
    assert sum(line["dropped"].values()) == 1
    assert "dropped 1" in err
    again = json.loads(called("import", votes, "--store", "sqlite:///r.db", "--json", "-")[1].splitlines()[-1])
    assert (again["kept"], again["new"]) == (24, 0)


def test_from_import_to_a_model_to_being_forgotten(called, votes, tmp_path):
    assert called("import", votes)[0] == 0
    code, out, err = called("learn", "--encoder", "style", "--out", "m", "--json", "-")
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["per_user"] > 0.9 > 0.6 > result["one_for_all"]
    assert (tmp_path / "m" / "model.safetensors").exists()
    assert called("export", "ann", "--out", "out")[0] == 0
    assert len((tmp_path / "out" / "comparison.jsonl").read_text().splitlines()) == 12
    code, out, err = called("forget", "ann")
    assert code == 0, err
    assert "learnt again without the person" in out
    assert (tmp_path / "m" / "model.safetensors").exists()
    assert not (tmp_path / "out").exists(), "what was exported goes too"
    code, _, err = called("export", "ann")
    assert code == 2
    assert "bob" in err


def test_methods_lists_all_and_shows_one_with_its_settings(called):
    code, out, _ = called("methods")
    assert code == 0
    assert "bradley_terry" in out
    code, out, _ = called("methods", "bradley_terry")
    assert "prior_precision" in out
    assert "src/penchant" in out or "preference/bradley_terry.py" in out
    code, _, err = called("methods", "dop")
    assert code == 2
    assert "'dpo'" in err


def test_a_setting_of_a_method_is_checked_by_its_constructor(called, votes):
    code, _, err = called("learn", "--data.path", votes, "--encoder", "style", "--settings.l2", "-1")
    assert code == 2
    assert "l2" in err
    code, _, err = called("learn", "--data.path", votes, "--encoder", "style", "--settings.l22", "1")
    assert code == 2
    assert "'l2'" in err
