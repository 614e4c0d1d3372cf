"""A person's profile on the command line: in words, changed, taken along, deleted from the files."""

import json

import numpy as np
import pytest

from penchant.apps.learn import loaded
from penchant.apps.portraits import wishes_of


@pytest.fixture
def model(called, tmp_path):
    """Two people who want the opposite, learnt from the store."""
    rng = np.random.default_rng(0)

    def text(n_words):
        return " ".join(rng.choice(["tea", "maybe", "you", "shop", "3", "rain"], n_words)) + str(
            rng.choice(list(".!?"))
        )

    rows = []
    for i in range(40):
        short, long = text(rng.integers(2, 6)), text(rng.integers(15, 40))
        for user, chosen, rejected in (("ann", short, long), ("unmistakable", long, short)):
            rows.append({"prompt": f"Shall we go {i}?", "chosen": chosen, "rejected": rejected, "user": user})
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert called("import", "votes.jsonl")[0] == 0
    assert called("learn", "--encoder", "style", "--out", "m")[0] == 0
    return tmp_path / "m"


def asked(called, *words):
    code, out, err = called("profile", *words, "--json", "-")
    assert code == 0, err
    return json.loads(out.splitlines()[-1]), err


def test_it_is_shown_in_words_and_numbers_by_name(called, model):
    found, text = asked(called, "show", "--user", "ann", "--model", "m")
    assert found["wishes"] == wishes_of(loaded(model), "ann")
    assert found["profile"]["n_pairs"] == 40
    assert "words -" in text
    assert "40" in text


def test_one_number_is_changed_by_its_name_and_predictions_follow(called, model):
    before = loaded(model)
    found, _ = asked(called, "edit", "--user", "ann", "--model", "m", "--set.weights.words", "2.5")
    assert found["changed"] == ["weights"]
    after = loaded(model)
    place = after.names("weights").index("words")
    assert after.users_["ann"].weights[place] == 2.5
    rest = np.arange(len(after.weights_)) != place
    np.testing.assert_array_equal(after.users_["ann"].weights[rest], before.users_["ann"].weights[rest])
    texts = ["No.", "No, " + "because it rains, " * 20]
    assert np.diff(before.reward(["q"] * 2, texts, user="ann")) < np.diff(after.reward(["q"] * 2, texts, user="ann"))
    np.testing.assert_array_equal(
        before.reward(["q"] * 2, texts, user="unmistakable"), after.reward(["q"] * 2, texts, user="unmistakable")
    )


def test_what_was_exported_can_be_edited_and_read_back(called, model, tmp_path):
    asked(called, "export", "--user", "ann", "--model", "m", "--file", "ann.json")
    about = json.loads((tmp_path / "ann.json").read_text())
    assert about["names"]["weights"][0] == "words"
    about["profile"]["weights"] = [0.0] * len(about["profile"]["weights"])
    (tmp_path / "ann.json").write_text(json.dumps(about))
    assert asked(called, "edit", "--user", "ann", "--model", "m", "--file", "ann.json")[0]["changed"] == ["weights"]
    assert not loaded(model).users_["ann"].weights.any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set.weights.word", "1"], "'words'"),
        (["--set.weights", "[1, 2]"], "shape [11]"),
        (["--set.weights.words", ".nan"], "finite"),
        (["--set.standard_errors.words", "-1"], "negative"),
        (["--set.weight", "1"], "'weights'"),
        ([], "--set.FIELD"),
    ],
)
def test_a_change_that_means_nothing_is_refused_in_a_sentence(called, model, words, said):
    before = (model / "model.safetensors").read_bytes()
    code, _, err = called("profile", "edit", "--user", "ann", "--model", "m", *words)
    assert code == 2
    assert said in err
    assert (model / "model.safetensors").read_bytes() == before


def test_after_deletion_no_byte_is_left_in_the_models_files_and_what_else_there_is_is_said(called, model):
    weights = loaded(model).users_["unmistakable"].weights
    assert weights.tobytes() in (model / "model.safetensors").read_bytes()
    found, text = asked(called, "delete", "--user", "unmistakable", "--model", "m")
    files = b"".join(path.read_bytes() for path in model.rglob("*") if path.is_file())
    assert b"unmistakable" not in files
    assert weights.tobytes() not in files
    assert found["records_in_store"] == 40
    assert "penchant forget unmistakable" in text
    assert asked(called, "show", "--user", "ann", "--model", "m")[0]["profile"]["n_pairs"] == 40
    code, _, err = called("profile", "show", "--user", "unmistakable", "--model", "m")
    assert code == 2
    assert "Nothing is known" in err


def test_somebody_unknown_and_a_folder_without_a_model_are_sentences(called, model):
    code, _, err = called("profile", "show", "--user", "an", "--model", "m")
    assert code == 2
    assert "'ann'" in err
    code, _, err = called("profile", "show", "--user", "ann", "--model", "nowhere")
    assert code == 2
    assert "penchant learn" in err
