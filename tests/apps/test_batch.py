"""`penchant batch`: from prompts to preferences, here and over Ray alike; resumed after a kill, gone with a person."""

import json
import subprocess
import sys
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_model
from part_tasks import Chain

from penchant import parts
from penchant.apps.batch import batch
from penchant.apps.data import Data
from penchant.apps.tasks import Encode, Mine, Sample, Score
from penchant.errors import DataError, SettingsError
from penchant.feedback import pairing
from penchant.records import Edits, Ratings, canonical_json
from penchant.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'penchant[ray]')")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray.*")
        with parts.cluster(2, None) as ray:
            yield ray


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"id": i, "prompt": f"Name {i} colours.", "tags": {"n": i}} for i in range(7)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prompts_become_preferences_that_can_be_learnt_from(language, prompts, tmp_path):
    answers, scored, pairs = (tmp_path / f"{name}.parquet" for name in ("answers", "scored", "pairs"))
    batch("sample", str(prompts), out=answers, sample=Sample(language, n=3, max_new_tokens=5, temperature=1.5))
    batch("score", str(answers), out=scored, score=Score(language))
    batch("mine", str(scored), out=pairs, mine=Mine(by="log_probabilities"))
    table = pq.read_table(scored)
    assert table["id"].to_pylist() == list(range(7))
    assert table["tags"].to_pylist() == [{"n": i} for i in range(7)]
    learnt, _, _ = Data(path=pairs).comparisons()
    assert 0 < len(learnt) <= 7
    best = [max(row) for row in table["log_probabilities"].to_pylist()]
    for extra in map(json.loads, learnt.table["extra"].to_pylist()):
        assert extra["score_chosen"] == best[extra["id"]]


def test_every_task_gives_the_same_bytes_here_and_from_two_workers(cluster, language, tmp_path):
    sample = Sample(language, n=3, max_new_tokens=5, temperature=1.5)
    chain = Chain((sample, Score(language), Encode("style"), Mine(by="log_probabilities")))
    rows = [(pa.table({"id": [i], "prompt": [f"Name {i} colours."]}), {}) for i in range(7)]
    for workers in (0, 2):
        out = tmp_path / f"{workers}.parquet"
        parts.work_through(chain, rows, out, rows_per_part=3, workers=workers, progress=False)
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    made = json.loads(pq.read_table(tmp_path / "2.parquet")["extra"][0].as_py())
    kept = {"id", "n_tokens", "sampled_log_probabilities", "sampled_tokens", "vectors"}
    assert made.keys() == {"score_chosen", "score_rejected"} | kept


def test_ratings_of_many_parts_become_all_pairs_of_each_person(tmp_path):
    rated = Ratings.from_rows(
        [
            {"prompt": "q", "response": f"r{i}", "score": float(i % 13), "user": f"u{i % 4}", "source": "s"}
            for i in range(40)
        ]
    )
    home = Store(f"sqlite:///{tmp_path / 'r.db'}")
    home.add(rated)
    outcome = batch("mine", home.url, out=tmp_path / "pairs.parquet", rows_per_part=6)
    truth, lost = pairing.comparisons(rated)
    found, _, _ = Data(path=tmp_path / "pairs.parquet").comparisons()
    shown = ["user", "prompt", "chosen", "rejected"]
    assert sorted(map(str, found.table.select(shown).to_pylist())) == sorted(
        map(str, truth.table.select(shown).to_pylist())
    )
    assert outcome.data["counts"] == lost


def test_a_person_who_is_forgotten_takes_what_was_made_of_the_store_along(tmp_path, own_cache):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}")
    home.add(
        Ratings.from_rows([{"prompt": "q", "response": r, "score": s, "user": "ann"} for r, s in (("a", 1), ("b", 2))])
    )
    batch("mine", home.url, out=tmp_path / "pairs.parquet")
    assert (tmp_path / "pairs.parquet").exists()
    home.forget("ann")
    assert not (tmp_path / "pairs.parquet").exists()


def test_a_store_of_several_kinds_asks_which(tmp_path):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}")
    home.add(Ratings.from_rows([{"prompt": "q", "response": "a", "score": 1.0}]))
    home.add(Edits.from_rows([{"draft": "a", "revision": "b"}]))
    with pytest.raises(SettingsError, match="1 ratings, 1 edits; name one with --kind"):
        batch("mine", home.url, out=tmp_path / "pairs.parquet")
    assert batch("mine", home.url, out=tmp_path / "pairs.parquet", kind="edit").data["written"] == 1


def test_lists_of_messages_are_read_as_messages_from_lines_and_from_columns(tmp_path):
    rows = [
        {"prompt": [{"role": "user", "content": "Hi"}], "response": [{"role": "assistant", "content": "Hello"}]},
        {"prompt": "Hi", "response": "Hello"},
    ]
    lines, columns = tmp_path / "chat.jsonl", tmp_path / "chat.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows[:1]), columns)
    for path in (lines, columns):
        batch("encode", str(path), out=tmp_path / f"{path.name}.jsonl", encode=Encode("style"))
        first = json.loads((tmp_path / f"{path.name}.jsonl").read_text().splitlines()[0])
        assert (first["form"], first["prompt"]) == ("messages", rows[0]["prompt"])  # as lists again
    both = [json.loads(line) for line in (tmp_path / "chat.jsonl.jsonl").read_text().splitlines()]
    assert both[0]["vector"] == both[1]["vector"]  # they say the same
    assert "form" not in both[1]
    assert both[0]["response"] == json.loads(canonical_json(rows[0]["response"]))


def test_unreadable_rows_stop_or_are_counted(prompts, tmp_path):
    prompts.write_text(prompts.read_text() + "{broken\n")
    with pytest.raises(DataError, match=r"1: the line is not JSON.*--on-error drop"):
        batch("encode", str(prompts), out=tmp_path / "v.parquet", encode=Encode("style"))
    outcome = batch("encode", str(prompts), out=tmp_path / "v.parquet", encode=Encode("style"), on_error="drop")
    assert outcome.data["unread"] == {"the line is not JSON": 1}
    assert "could not be read: 1 (the line is not JSON)" in outcome.text
    assert outcome.data["written"] == 7


def test_a_stopped_run_goes_on_and_says_from_where_unless_its_input_or_model_has_changed(language, prompts, tmp_path):
    out = tmp_path / "answers.parquet"
    sample = Sample(language, n=1, max_new_tokens=4)
    rows = prompts.read_text()
    prompts.write_text(rows + json.dumps({"id": 7, "prompt": "long " * 200, "tags": {"n": 7}}) + "\n")
    with pytest.raises(DataError, match=r"Row 7: .*leaves no room"):
        batch("sample", str(prompts), out=out, sample=sample, rows_per_part=2)
    prompts.write_text(rows)
    with pytest.raises(SettingsError, match=r"answers.parquet.parts holds parts of another run: file was"):
        batch("sample", str(prompts), out=out, sample=sample, rows_per_part=2)
    with pytest.raises(SettingsError, match="settings was"):
        batch("sample", str(prompts), out=out, sample=Sample(language, n=2, max_new_tokens=4), rows_per_part=2)


def test_the_command_line_goes_on_after_a_kill_and_ends_with_a_line_for_scripts(prompts, tmp_path):
    """SIGKILL in the middle of the second part, from within, so that no clock decides."""
    code = (
        "import os, signal, sys\nfrom penchant import cli, parts\n"
        "do = parts._Worker.do\n"
        "def dies(self, number):\n"
        "    if number == 1 and os.environ.get('DIES'):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return do(self, number)\n"
        "parts._Worker.do = dies\ncli.main()\n"
    )
    command = [sys.executable, "-c", code, "batch", "encode", str(prompts), "--out", str(tmp_path / "v.parquet")]
    command += ["--encode.encoder", "style", "--rows-per-part", "2", "--json", "-"]
    environment = {"PENCHANT_CACHE": str(tmp_path / "cache"), "PATH": ""}
    assert subprocess.run(command, env=environment | {"DIES": "1"}, capture_output=True, check=False).returncode == -9
    assert not (tmp_path / "v.parquet").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout)
    assert (line["rows"], line["written"], line["resumed"]) == (7, 7, 2)
    assert "went on from 2 rows that an earlier run had done" in done.stderr


def test_a_result_of_another_ending_is_refused(prompts, tmp_path):
    with pytest.raises(SettingsError, match=r"end in \.jsonl or \.parquet"):
        batch("encode", str(prompts), out=tmp_path / "v.csv")
