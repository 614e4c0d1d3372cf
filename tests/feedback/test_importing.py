"""Files to records: what a file is, which format it has, and that every row is kept or counted with a reason."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_samples import SAMPLES

from penchant.errors import DataError, UnknownNameError
from penchant.feedback import binary, chunk, reading
from penchant.feedback.importing import Imported, read


def zipped(data):
    """Gzip without a time, so that a test has the same name in every process."""
    return gzip.compress(data, mtime=0)


PAIRS = [{"prompt": f"p{i}", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(5)]

# Every set of the shared data that holds preferences, ratings, votes, edits, interactions or talk, the format that
# `auto` must find in it, and the least share of its rows that must be kept.
SETS = {
    "agiqa3k_ratings/ratings.csv.gz": ("mean_opinions", 1),
    "alpaca_eval_judgments/preferences.csv.gz": ("alpaca_eval_scores", 1),
    "autoj_scenarios/pairs.jsonl.gz": ("choices", 0.99),
    "ava_aesthetic_votes/votes.csv.gz": ("vote_histogram", 1),
    "bradley_terry_reference/baseball.csv": ("win_counts", 1),
    "bradley_terry_reference/cems_choices.csv.gz": ("win_counts", 0.98),
    "bradley_terry_reference/citations.csv": ("win_counts", 1),
    "bradley_terry_reference/football.csv.gz": ("match_results", 1),
    "bradley_terry_reference/pudding_ties.csv": ("win_counts", 1),
    "control_rollouts/cartpole_expert.npz": ("segments", 1),
    "delivery_segment_prefs/pairs.jsonl.gz": ("segment_pairs", 0.99),
    "edit_acceptance/decisions.jsonl.gz": ("edit_decisions", 1),
    "edit_acceptance/revision_chains.jsonl.gz": ("revision_chains", 1),
    "fine_grained_qa/examples.jsonl.gz": ("fine_grained", 1),
    "genai_bench_votes/votes.jsonl.gz": ("sides", 1),
    "hh_harmless_test/pairs.jsonl.gz": ("hh", 0.99),
    "hh_two_objectives/pairs.jsonl.gz": ("indexed", 0.99),
    "imagereward_rankings/rankings.jsonl.gz": ("rankings", 1),
    "inspired_dialogs/dialogs.jsonl.gz": ("conversations", 1),
    "jester_jokes/ratings.csv.gz": ("interactions", 1),
    "jfleg_edits/edits.jsonl.gz": ("corrections", 1),
    "jfleg_edits/system_votes.csv": ("ranked_systems", 1),
    "judgebench/judge_outputs.jsonl.gz": ("judge_verdicts", 0.99),
    "judgebench/pairs.jsonl.gz": ("choices", 0.99),
    "lastfm_listening/user_artists.csv.gz": ("interactions", 1),
    "llmbar_judges/pairs.jsonl.gz": ("choices", 1),
    "llmbar_judges/processed_human_pairs.jsonl.gz": ("choices", 1),
    "llmbar_judges/verdicts.jsonl.gz": ("judge_verdicts", 0.99),
    "movielens_latest_small/ratings.csv.gz": ("interactions", 1),
    "movielens_latest_small/tags.csv.gz": ("interactions", 1),
    "mtbench_votes/gpt4_pair.jsonl.gz": ("battles", 1),
    "mtbench_votes/text_gallery.jsonl.gz": ("battles", 1),
    "mtbench_votes/votes.jsonl.gz": ("battles", 1),
    "opinion_preferences/pairs.jsonl.gz": ("choices", 1),
    "opinion_summaries/products.jsonl.gz": ("reviews", 0.3),  # only some of its products have stars
    "pandalm_human/pairs.jsonl.gz": ("pandalm", 0.99),
    "popquorn_email_rewrites/rewrites.jsonl.gz": ("edits", 1),
    "popquorn_offensiveness/ratings.jsonl.gz": ("interactions", 1),
    "robot_segment_labels/labels.csv.gz": ("segment_starts", 0.99),
    "sushi_rankings/rankings.csv.gz": ("rank_columns", 1),
    "tool_reward_pairs/pairs.jsonl.gz": ("themis", 0.99),
    "user_satisfaction_dialogs/dialogs.jsonl.gz": ("conversations", 1),
    "writer_edits/edits.jsonl.gz": ("edits", 1),
    "writer_edits/rankings.jsonl.gz": ("rankings", 1),
}


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def assert_exact(imported: Imported) -> None:
    assert imported.kept + sum(imported.dropped.values()) == imported.rows
    assert all(count > 0 for count in imported.dropped.values())


def rows_in(file: Path) -> int:
    """Records of a file, counted without the importer; None of these sets has a record over several lines."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    n_lines = sum(bool(line.strip()) for line in content.split(b"\n"))
    return n_lines - (".csv" in file.suffixes)


@pytest.mark.parametrize("name", SETS)
def test_every_shared_set_is_recognised_and_each_of_its_rows_is_kept_or_counted(shared_data: Path, name: str) -> None:
    imported = read(shared_data / name)
    expected, share = SETS[name]
    assert imported.format == expected
    assert_exact(imported)
    assert imported.kept >= share * imported.rows > 0
    if not name.endswith(".npz"):
        assert imported.rows == rows_in(shared_data / name)
    for part in imported.records.values():
        assert set(part.table["source"].to_pylist()) == {name}


def test_no_set_of_the_shared_data_is_forgotten(shared_data: Path) -> None:
    without_feedback = {"dissected_preferences", "item_fairness_oracle", "music_arena", "omniglot_small"}
    folders = {folder.name for folder in shared_data.iterdir() if folder.is_dir()}
    assert folders - {name.split("/")[0] for name in SETS} <= without_feedback


def test_texts_of_items_are_found_beside_the_ratings(shared_data: Path) -> None:
    imported = read(shared_data / "popquorn_offensiveness" / "ratings.jsonl.gz")
    ratings = imported.records["rating"]
    assert "items.jsonl.gz" in imported.reason
    assert len(ratings.users) > 100
    assert len(ratings.table["response"][0].as_py()) > 10
    assert ratings.table["high"].null_count == len(ratings)  # nobody said where the scale ends


def test_a_survey_in_words_is_imported_by_a_mapping_of_a_few_lines(shared_data: Path, tmp_path: Path) -> None:
    text = """
        kind: rating
        prompt: case
        response: survey
        aspects: [competent, warm, trustworthy, persuasive, boring]
        constants: {low: 1, high: 5}
        values:
          score:
            {Strongly disagree: 1, Disagree: 2, Neither agree nor disagree: 3, Agree: 4, Strongly agree: 5}
    """
    survey = shared_data / "inspired_dialogs" / "seeker_surveys.csv"
    imported = read(survey, mapping=written(tmp_path, "mine.yaml", text))
    assert_exact(imported)
    assert imported.rows == 701
    assert imported.kept >= 699
    assert len(imported.records["rating"]) >= 699 * 4


# Forms of files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", lines(PAIRS)),
        ("x.jsonl", "\n" + lines(PAIRS).replace("\n", "\r\n\r\n")),
        ("x.jsonl", b"\xef\xbb\xbf" + lines(PAIRS).encode()),
        ("x.jsonl.gz", zipped(lines(PAIRS).encode())),
        ("x.jsonl.gz", zipped(lines(PAIRS[:2]).encode()) + zipped(lines(PAIRS[2:]).encode())),
        ("misnamed.csv", lines(PAIRS)),
        ("x.json", json.dumps(PAIRS)),
        ("x.json", json.dumps(PAIRS, indent=1)),
        ("x.json.gz", zipped(json.dumps(PAIRS).encode())),
        ("x.json", json.dumps({"version": 1, "data": PAIRS})),
        ("x.json", json.dumps({"train": PAIRS[:2], "test": PAIRS[2:]}, indent=1)),
        ("x.json", json.dumps({key: [row[key] for row in PAIRS] for key in PAIRS[0]})),
        ("x.json", json.dumps({str(i): row for i, row in enumerate(PAIRS)})),
        ("x.csv", "prompt,chosen,rejected\n" + "".join(",".join(row.values()) + "\n" for row in PAIRS)),
        ("x.tsv", "prompt\tchosen\trejected\r\n" + "".join("\t".join(row.values()) + "\r\n" for row in PAIRS)),
        ("x.csv.gz", zipped(b"prompt;chosen;rejected\n" + b'"p";c;"r"\n' * 5)),
    ],
)
def test_the_same_rows_are_read_from_every_form_of_text(tmp_path: Path, name: str, content: str | bytes) -> None:
    imported = read(written(tmp_path, name, content))
    assert (imported.format, imported.rows, imported.kept, imported.dropped) == ("pairs", 5, 5, {})
    assert imported.records["comparison"].table["chosen"][0].as_py().startswith("c")


def test_one_object_of_messages_is_one_row_and_not_one_row_per_message(tmp_path: Path) -> None:
    for row in (SAMPLES["pairs"][1], SAMPLES["conversations"][0]):
        assert read(written(tmp_path, "x.json", json.dumps(row, indent=1))).rows == 1
    sides = {side: SAMPLES["pairs"][1][side] for side in ("chosen", "rejected")}
    sides = {side: [{"role": "user", "content": "Hi"}, *turns] for side, turns in sides.items()}
    assert read(written(tmp_path, "x.json", json.dumps(sides))).kept == 1


def test_a_quoted_cell_keeps_its_line_breaks_commas_and_quotes(tmp_path: Path) -> None:
    text = 'prompt,chosen,rejected\n"a\r\nb","say ""hi"", twice",no\n'
    table = read(written(tmp_path, "x.csv", text)).records["comparison"].table
    assert (table["prompt"][0].as_py(), table["chosen"][0].as_py()) == ("a\r\nb", 'say "hi", twice')


def test_a_cell_longer_than_the_csv_modules_limit_is_read(tmp_path: Path) -> None:
    text = f'prompt,chosen,rejected\n"{"x" * 200_000}",c,r\n'
    assert read(written(tmp_path, "x.csv", text)).kept == 1


def test_four_bare_numbers_are_a_table_of_ratings_without_header(tmp_path: Path) -> None:
    imported = read(written(tmp_path, "u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n"))
    assert (imported.format, imported.rows, imported.kept) == ("interactions", 2, 2)


@pytest.mark.parametrize("folder", [False, True])
def test_parquet_is_read_by_columns_and_says_the_same_as_rows(tmp_path: Path, folder: bool) -> None:
    table = pa.Table.from_pylist([*PAIRS, {"prompt": "q", "chosen": "same", "rejected": "same"}, {"prompt": "q"}])
    (tmp_path / "set" / "data").mkdir(parents=True)
    pq.write_table(table, tmp_path / "set" / "data" / "train-0.parquet", row_group_size=3)
    by_column = read(tmp_path / "set" if folder else tmp_path / "set" / "data" / "train-0.parquet", source="s")
    by_row = read(written(tmp_path, "x.jsonl", lines(table.to_pylist())), source="s")
    assert by_column.dropped == by_row.dropped == {"`chosen` and `rejected` are the same": 1, "`chosen` is missing": 1}
    assert by_column.records["comparison"].table.equals(by_row.records["comparison"].table)


def test_a_folder_that_the_datasets_library_saved_is_read_with_all_its_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_list(PAIRS)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(str(tmp_path / "both"))
    part.save_to_disk(str(tmp_path / "one"))
    assert (read(tmp_path / "both").kept, read(tmp_path / "one").kept) == (10, 5)


def test_rollouts_are_cut_into_trajectories(tmp_path: Path) -> None:
    file = tmp_path / "r.npz"
    np.savez(file, obs=np.arange(7.0)[:, None], acts=np.arange(5), rews=np.ones(5), indices=np.array([2]))
    table = read(file).records["segment"].table
    assert table["states"].to_pylist() == ["[[0.0],[1.0]]", "[[3.0],[4.0],[5.0]]"]
    assert table["next_states"].to_pylist() == ["[[1.0],[2.0]]", "[[4.0],[5.0],[6.0]]"]


def test_many_chunks_say_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"user": str(i % 7), "item": str(i), "rating": str(i % 5)} for i in range(500)] + [{"user": "u"}] * 3
    file = written(tmp_path, "x.jsonl", lines(rows))
    whole = read(file)
    monkeypatch.setattr(chunk, "CHUNK_ROWS", 17)
    parts = read(file)
    assert parts.dropped == whole.dropped
    assert parts.records["interaction"].table.equals(whole.records["interaction"].table)


# Rows that are lost ---------------------------------------------------------------------------------------------------


def test_each_broken_line_is_counted_by_its_reason(tmp_path: Path) -> None:
    good = json.dumps(PAIRS[0]).encode()
    broken = [
        b'{"prompt": "p", "chosen"',
        b"[1, 2]",
        b'{"prompt": "\xff", "chosen": "c", "rejected": "r"}',
        b'{"prompt": "\\ud800", "chosen": "c", "rejected": "r"}',
        b'{"prompt": "p", "chosen": NaN, "rejected": "r"}',
        b'{"prompt": "p", "chosen": {}, "rejected": "r"}',
        b'{"prompt": "p", "chosen": "c"}',
        b'{"prompt": "p", "chosen": "c", "rejected": "c"}',
        b"[" * 100_000,
    ]
    imported = read(written(tmp_path, "x.jsonl", b"\n".join([good, b"", *broken, b"  ", good]) + b"\n"))
    assert (imported.rows, imported.kept) == (11, 2)
    assert_exact(imported)
    assert imported.dropped == {
        reading.NOT_JSON: 2,
        reading.NO_OBJECT: 1,
        reading.NOT_UTF8: 1,
        "`prompt`: a text is not valid UTF-8": 1,
        "`chosen` is missing": 1,
        "`chosen` is not text": 1,
        "`rejected` is missing": 1,
        "`chosen` and `rejected` are the same": 1,
    }


def test_ragged_rows_open_quotes_and_broken_letters_cost_one_row_each(tmp_path: Path) -> None:
    good = b"p,c,r\n"
    text = b"prompt,chosen,rejected\n" + good + b"p,c\n" + b"p,c,r,x\n" + b"p,\xff,r\n" + good + b'p,"c,r\n' + good * 3
    imported = read(written(tmp_path, "x.csv", text))
    assert (imported.rows, imported.kept) == (9, 5)
    assert imported.dropped == {reading.RAGGED: 2, reading.NOT_UTF8: 1, reading.OPEN_QUOTE: 1}


def test_a_truncated_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{**row, "prompt": rng.bytes(200).hex()} for row in PAIRS * 40]
    whole = zipped(lines(rows).encode())
    imported = read(written(tmp_path, "x.jsonl.gz", whole[: len(whole) // 2]))
    assert 50 < imported.kept < 150
    assert imported.dropped == {reading.CUT: 1}
    assert_exact(imported)


def test_a_json_array_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    imported = read(written(tmp_path, "x.json", json.dumps(PAIRS)[:-20]))
    assert (imported.rows, imported.kept, imported.dropped) == (5, 4, {reading.BROKEN_ARRAY: 1})


def test_a_damaged_block_of_a_parquet_file_costs_only_its_own_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{**row, "prompt": rng.bytes(50).hex()} for row in PAIRS * 20]
    file = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=50, write_page_checksum=True, use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[1000] ^= 255
    file.write_bytes(content)
    imported = read(file)
    assert (imported.rows, imported.kept, imported.dropped) == (100, 50, {binary.DAMAGED_BLOCK: 50})


def test_parts_of_kept_rows_without_record_are_counted_apart(tmp_path: Path) -> None:
    imported = read(written(tmp_path, "x.jsonl", lines(SAMPLES["ultrafeedback"])))
    assert (imported.rows, imported.kept, imported.dropped) == (1, 1, {})
    assert imported.partial == {"a rating is N/A or outside its scale": 1}
    assert len(imported.records["rating"]) == 4


@pytest.mark.parametrize("content", [b"", b"\n \n", zipped(b""), b"[]", b"prompt,chosen,rejected\n"])
def test_a_file_without_rows_has_no_rows_and_says_so(tmp_path: Path, content: bytes) -> None:
    imported = read(written(tmp_path, "x.data", content))
    assert (imported.rows, imported.kept, imported.dropped, imported.records) == (0, 0, {}, {})
    assert imported.reason == "there are no rows in it"


def test_a_file_in_which_nothing_can_be_read_counts_all_of_it(tmp_path: Path) -> None:
    imported = read(written(tmp_path, "x.jsonl", "no\njson\nhere\n"))
    assert (imported.format, imported.rows, imported.dropped) == ("none", 3, {reading.NOT_JSON: 3})


# Asking for help ------------------------------------------------------------------------------------------------------


def test_fields_that_nobody_knows_get_the_nearest_format_and_a_mapping_that_works(tmp_path: Path) -> None:
    rows = [{"question": "q", "better": "a", "worse": "b", "shift": 3}]
    file = written(tmp_path, "x.jsonl", lines(rows))
    with pytest.raises(DataError, match=r"`better`, `question`, `shift`, `worse`.*nearest is") as caught:
        read(file)
    yaml = written(tmp_path, "mine.yaml", str(caught.value).split("\n\n")[1])
    imported = read(file, mapping=yaml)
    assert (imported.format, imported.kept) == ("mapping", 1)
    assert imported.records["comparison"].table["chosen"].to_pylist() == ["a"]


def test_a_format_may_be_asked_for_and_a_wrong_one_drops_with_reasons(tmp_path: Path) -> None:
    file = written(tmp_path, "x.jsonl", lines(PAIRS))
    assert read(file, format="pairs").reason == "as asked"
    assert read(file, format="unpaired").dropped == {"there is no prompt or no answer": 5}
    with pytest.raises(UnknownNameError, match="'pairs'"):
        read(file, format="pair")


def test_items_may_be_given_and_ids_without_text_are_counted(tmp_path: Path) -> None:
    ratings = written(tmp_path, "r.csv", "user,song,stars\na,1,5\nb,2,3\nb,9,3\n")
    songs = written(tmp_path, "texts.csv", "song,title\n1,One\n2,Two\n")
    assert "interaction" in read(ratings).records
    imported = read(ratings, items=songs)
    assert imported.records["rating"].table["response"].to_pylist() == ["One", "Two"]
    assert imported.dropped == {"the item is not in the file of items": 1}
    pairs = written(tmp_path, "x.jsonl", lines(PAIRS))
    with pytest.raises(DataError, match="no ids that could point"):
        read(pairs, items=songs)
    with pytest.raises(DataError, match="holds no items"):
        read(ratings, items=pairs)


def test_what_cannot_be_read_at_all_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="without a saved data set"):
        read(tmp_path)
    with pytest.raises(DataError, match="directory at the end is damaged"):
        read(written(tmp_path, "x.parquet", b"PAR1 and no more"))
    with pytest.raises(DataError, match="UTF-16"):
        read(written(tmp_path, "x.csv", "prompt".encode("utf-16")))
    with pytest.raises(DataError, match="cannot be read"):
        read("with\0nul.csv")


def test_the_source_is_folder_and_file_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "votes").mkdir()
    file = written(tmp_path / "votes", "x.jsonl", lines(PAIRS))
    monkeypatch.chdir(tmp_path / "votes")
    for path in (file, Path("x.jsonl")):
        assert read(path).records["comparison"].table["source"][0].as_py() == "votes/x.jsonl"
    assert read(file, source="mine").records["comparison"].table["source"][0].as_py() == "mine"
