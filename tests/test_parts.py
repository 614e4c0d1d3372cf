"""Work in parts: the same rows in the same order, here or over Ray, whatever dies in between, and nothing is silent."""

import json
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from part_tasks import Company, Products, Squares

from penchant import parts
from penchant.errors import DataError, MissingExtraError, SettingsError
from penchant.parts import work_through

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")


@pytest.fixture(scope="module")
def cluster():
    """A local Ray cluster of two workers, as a run with workers starts one."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'penchant[ray]')")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray.*")
        with parts.cluster(2, None) as ray:
            yield ray


def rows(n=23, size=5, **more):
    """Tables of a few rows each, none of them of the size of a part."""
    return [(pa.table({"x": list(range(i, min(i + size, n)))} | more), {}) for i in range(0, n, size)]


def nothing():
    """Input that a run which goes on has no business to read."""
    raise AssertionError("the input was read again")
    yield


def through(task, out, given=None, **options):
    return work_through(task, rows() if given is None else given, out, progress=False, **{"rows_per_part": 4} | options)


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_rows_come_out_in_their_order_with_their_columns_whatever_the_size_of_a_part(tmp_path, size):
    done = through(Squares(), tmp_path / "out.parquet", rows_per_part=size)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["x", "square", "row"]
    assert table["square"].to_pylist() == [i * i for i in range(23)]
    assert table["row"].to_pylist() == list(range(23))
    assert (done.rows, done.written, done.failed, done.resumed, done.counts) == (23, 23, 0, 0, {"rows seen": 23})
    assert list(tmp_path.iterdir()) == [tmp_path / "out.parquet"]


def test_json_lines_hold_the_same_rows(tmp_path):
    through(Squares(), tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(lines[3]) == {"x": 3, "square": 9, "row": 3}
    assert len(lines) == 23


def test_columns_that_differ_between_parts_are_widened_or_named(tmp_path):
    given = [(pa.table({"x": [1, 2]}), {}), (pa.table({"x": [0.5], "note": ["half"]}), {})]
    through(Squares(), tmp_path / "out.parquet", given, rows_per_part=1)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist()[1:] == [
        {"x": 2.0, "square": 4.0, "row": 1, "note": None},
        {"x": 0.5, "square": 0.25, "row": 2, "note": "half"},
    ]
    with pytest.raises(DataError, match="of one type in some rows"):
        through(Squares(), tmp_path / "no.parquet", [(pa.table({"x": [1]}), {}), (pa.table({"x": ["two"]}), {})])
    assert not (tmp_path / "no.parquet.parts").exists()


def test_rows_of_one_key_are_given_together_and_in_their_order(tmp_path):
    who = [f"p{i % 7}" for i in range(60)]
    given = [(pa.table({"who": who[i : i + 9]}), {}) for i in range(0, 60, 9)]
    through(Company(), tmp_path / "out.parquet", given, together=lambda table: table["who"].to_pylist())
    found = sorted(pq.read_table(tmp_path / "out.parquet").to_pylist(), key=lambda row: row["row"])
    assert [row["who"] for row in found] == who
    assert [row["company"] for row in found] == [who.count(name) for name in who]
    assert [row["before"] for row in found] == [i - 7 if i >= 7 else -1 for i in range(60)]


def test_a_row_that_cannot_be_done_stops_with_its_number(tmp_path):
    with pytest.raises(DataError, match=r"^Row 9: 1 of 1 numbers have no square.*--on-error drop"):
        through(Squares(refuses=(9, 10)), tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_rows_that_cannot_be_done_are_counted_and_named_and_cost_no_other_row(tmp_path):
    done = through(Squares(refuses=(0, 9, 10, 22)), tmp_path / "out.parquet", on_error="drop")
    assert (done.written, done.failed, done.counts) == (19, 4, {"rows seen": 19})
    kept = [i for i in range(23) if i not in (0, 9, 10, 22)]
    assert pq.read_table(tmp_path / "out.parquet")["row"].to_pylist() == kept
    named = [json.loads(line) for line in done.failures.read_text().splitlines()]
    assert [line["row"] for line in named] == [0, 9, 10, 22]
    assert named[1]["reason"] == "1 of 1 numbers have no square."


def test_rows_of_which_nothing_comes_are_an_error_that_says_how_many(tmp_path):
    with pytest.raises(DataError, match="Nothing came of 23 rows: 23 could not be done"):
        through(Squares(refuses=tuple(range(23))), tmp_path / "out.parquet", on_error="drop")
    with pytest.raises(DataError, match="no rows to work on; 3: not JSON"):
        through(Squares(), tmp_path / "out.parquet", [(pa.table({"x": pa.array([], pa.int64())}), {"not JSON": 3})])


def test_a_killed_run_goes_on_from_its_parts_and_ends_with_the_same_bytes(tmp_path):
    through(Squares(), tmp_path / "whole.parquet")
    lives = tmp_path / "life"
    lives.touch()
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport test_parts\nfrom pathlib import Path\n"
        "test_parts.through(test_parts.Squares(9, sys.argv[2]), Path(sys.argv[3]))\n"
    )
    out = tmp_path / "out.parquet"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(lives), str(out)]
    assert subprocess.run(command, check=False).returncode == -9
    done = through(Squares(9, str(lives)), out, nothing())
    assert done.resumed == 8
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_process_that_died_after_its_last_write_leaves_nothing_doubled(tmp_path):
    through(Squares(), tmp_path / "whole.parquet")
    out = tmp_path / "out.parquet"
    with pytest.raises(DataError):
        through(Squares(refuses=(22,)), out)
    [record] = (tmp_path / "out.parquet.parts").glob("*3.json")
    record.unlink()  # its rows are written, but nobody was told
    done = through(Squares(), out, nothing())
    assert (done.resumed, done.written) == (16, 23)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_part_that_ends_one_process_after_the_other_is_an_error_with_its_rows(tmp_path):
    worker = parts._Worker(Squares(), tmp_path / "out.parquet.parts", "stop", 1)
    with pytest.raises(DataError):
        through(Squares(refuses=(9,)), tmp_path / "out.parquet")
    (worker.folder / "00000004.tries").write_bytes(b"x" * parts._TRIES)
    assert "Rows 16 to 19: " in worker({"item": [4]})["error"][0]
    assert "processes died" in worker({"item": [4]})["error"][0]
    assert through(Squares(), tmp_path / "out.parquet", nothing()).written == 23  # another run may try again


def test_a_result_is_never_overwritten_and_parts_of_another_run_are_never_mixed_in(tmp_path):
    out = tmp_path / "out.parquet"
    with pytest.raises(DataError):
        through(Squares(refuses=(22,)), out, about={"model": "a", "n": 1})
    with pytest.raises(SettingsError, match=r"model was 'a', now 'b'.*delete the folder"):
        through(Squares(), out, nothing(), about={"model": "b", "n": 1})
    with pytest.raises(SettingsError, match="rows_per_part was 4, now 5"):
        through(Squares(), out, nothing(), about={"model": "a", "n": 1}, rows_per_part=5)
    through(Squares(), out, nothing(), about={"model": "a", "n": 1})
    with pytest.raises(SettingsError, match="is there already"):
        through(Squares(), out)


def test_without_ray_workers_are_an_error_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'penchant\[ray\]'"):
        through(Squares(), tmp_path / "out.parquet", workers=2)


@pytest.mark.parametrize("options", [{"workers": -1}, {"rows_per_part": 0}, {"threads": 0}])
def test_settings_out_of_their_range_are_refused(tmp_path, options):
    with pytest.raises(SettingsError, match="at least"):
        through(Squares(), tmp_path / "out.parquet", **options)


# Over Ray ------------------------------------------------------------------------------------------------------------


def test_our_own_cluster_listens_on_loopback_only_and_tells_nobody(cluster):
    psutil = pytest.importorskip("psutil", reason="psutil lists the open ports")
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    session = Path(cluster._private.worker._global_node.get_session_dir_path())
    assert not (session / "usage_stats.json").exists()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_two_workers_give_the_same_bytes_as_one_process_here(cluster, tmp_path):
    import torch

    before, given = torch.get_num_threads(), rows(600, 256)
    torch.set_num_threads(2)  # which would give other bits than the workers' one, if it were left so
    try:
        for workers in (0, 2):
            through(Products(), tmp_path / f"{workers}.parquet", given, workers=workers, rows_per_part=128)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_a_killed_worker_has_its_part_done_again_and_nothing_is_doubled(cluster, tmp_path):
    through(Squares(), tmp_path / "whole.parquet")
    lives = tmp_path / "life"
    lives.touch()
    done = through(Squares(9, str(lives)), tmp_path / "out.parquet", workers=2)
    assert not lives.exists()  # the worker did die
    assert (done.written, done.resumed) == (23, 0)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_row_that_cannot_be_done_is_the_same_sentence_from_a_worker(cluster, tmp_path):
    with pytest.raises(DataError, match=r"^Row 9: 1 of 1 numbers have no square"):
        through(Squares(refuses=(9,)), tmp_path / "out.parquet", workers=2)
    done = through(Squares(), tmp_path / "out.parquet", nothing(), workers=2)
    assert done.written == 23


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'penchant[ray]')")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for each, words in (
        (address, "No Ray cluster"),
        ("127.0.0.1:no", "No Ray cluster"),
        (f"ray://{address}", "client"),
    ):
        with pytest.raises(SettingsError, match=words):
            through(Squares(), tmp_path / "out.parquet", workers=1, address=each)
