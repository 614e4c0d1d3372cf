"""Where a run goes on from, and which checkpoints may go."""

import json

import pytest

from penchant.align.checkpoints import Start, checkpoint_at, find_start, remove_old
from penchant.errors import SettingsError, StorageError
from penchant.whole import whole_folder

RECIPE = {"method": "dpo", "trainer": {"steps": 9}, "versions": {"torch": "2"}}


def checkpoint(folder, step, best=None):
    with whole_folder(checkpoint_at(folder, step)) as partial:
        (partial / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))


def kept(folder):
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (Start(), "starts anew"),
        (Start(None, 1, {"checkpoint-4": "x is missing"}), "starts anew (1 checkpoint found, 1 damaged: skipped "),
        (Start(result={"steps": 7}), "finished before, at step 7 of 9: nothing was trained"),
    ],
)
def test_a_start_is_told_in_a_sentence(start, sentence):
    assert start.sentence(9).startswith(sentence)


def test_the_last_whole_checkpoint_counts_whatever_lies_beside_it(tmp_path):
    for step in (2, 10, 9):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-11").write_text("a file")
    (tmp_path / "run.json").write_text(json.dumps(RECIPE | {"versions": {"torch": "1"}}))
    start = find_start(tmp_path, RECIPE, True)
    assert (start.step, start.n_found, start.damaged) == (10, 3, {})
    assert start.sentence(12) == "resumed from step 10 of 12 (3 checkpoints found)"
    assert find_start(tmp_path, RECIPE, 2).step == 2
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text("{")
    start = find_start(tmp_path, RECIPE, True)
    assert start.sentence(12) == (
        "resumed from step 9 of 12 (3 checkpoints found, 1 damaged: skipped checkpoint-10, because trainer_state.json "
        "has 1 of 26 bytes)"
    )


def test_a_folder_whose_record_cannot_be_read_is_not_written_over(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(StorageError, match=r"run\.json cannot be read"):
        find_start(tmp_path, RECIPE, True)


def test_a_run_that_left_nothing_worth_keeping_may_be_begun_otherwise(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RECIPE))
    other = RECIPE | {"trainer": {"steps": 10}}
    assert find_start(tmp_path, other, True) == Start()
    assert find_start(tmp_path, other, False) == Start()
    checkpoint(tmp_path, 1)
    for resume in (True, False, 1):
        with pytest.raises(SettingsError, match=r"trainer\.steps was 9 and is 10"):
            find_start(tmp_path, other, resume)


@pytest.mark.parametrize(
    ("n_kept", "best", "damaged", "stay"),
    [
        (None, None, {"checkpoint-3"}, [1, 2, 3, 4]),
        (2, None, set(), [3, 4]),
        (9, None, set(), [1, 2, 3, 4]),
        (1, 2, set(), [2, 4]),
        (2, None, {"checkpoint-3"}, [2, 4]),
        (0, None, set(), []),
    ],
)
def test_the_newest_whole_checkpoints_stay_and_the_best_besides(tmp_path, n_kept, best, damaged, stay):
    for step in (1, 2, 3, 4):
        checkpoint(tmp_path, step)
    remove_old(tmp_path, n_kept, best=best, damaged=damaged)
    assert kept(tmp_path) == stay
