"""`penchant audit` from end to end, on feedback whose reason is known; by an encoder that needs no model."""

import json
import re

import numpy as np
import pytest

from penchant.apps import audit as auditing
from penchant.apps import report
from penchant.apps.data import Data
from penchant.apps.tables import audits_table
from penchant.errors import DataError, SettingsError
from penchant.preference.sparse_autoencoder import SparseAutoencoder


def feedback(path, n=400, *, users=("ann", "bob"), seed=0):
    """People who like questions back and exclamations; ann also likes lists, bob does not."""
    rng = np.random.default_rng(seed)
    words = np.array(["tea", "shop", "bread", "window", "evening", "quiet", "river", "lamp", "paper", "garden"])
    lines = []
    for row in range(n):
        user = users[row % len(users)]
        texts, liked = [], []
        for _ in range(2):
            lists, asks, shouts, you = rng.random(4) < 0.5
            said = [" ".join(rng.choice(words, 4)) for _ in range(3)]
            said += ["and you, can you"] * int(you)
            text = ("\n- " if lists else ". ").join(said) + ("?" if asks else "!" if shouts else ".")
            texts.append(text + f" <b>{row}</b>")
            liked.append(2.5 * asks + 1.5 * shouts + (1.5 if user == "ann" else -1.5) * lists)
        won = int(rng.random() > 1 / (1 + np.exp(liked[1] - liked[0])))
        if texts[0] != texts[1]:
            lines.append({"prompt": f"q{row}", "chosen": texts[won], "rejected": texts[1 - won], "user": user})
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def audited(path, **settings):
    small = {"encoder": "style", "n_features": 8, "n_active": 3, "seed": 0}
    return auditing.audit(path, **(small | settings))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    path = feedback(folder / "votes.jsonl")
    first = audited(path, out=folder / "first")
    return folder, path, first.data, first.text


def test_the_reason_is_found_named_and_weighed(found):
    _, _, data, text = found
    asks = next(one for one in data["features"] if one["description"] == "questions back")
    assert asks["kept"]
    assert asks["coefficient"][1] > 0
    assert asks["win_rate"][1] > 0.6
    assert asks["fidelity"][0] > 0.8
    assert data["auc"]["length"][1] < 0.5 < 0.6 < data["auc"]["5 features"][1]
    assert data["explained"]["5 features"][1] > 0.4
    assert "questions" in text


def test_what_scripts_read_is_plain_json_and_adds_up(found):
    folder, _, data, _ = found
    assert json.loads(json.dumps(data)) == data
    assert json.loads((folder / "first" / "audit.json").read_text())["features"] == data["features"]
    assert data["learnt_from"] + data["held_out"] + data["ties"] == data["comparisons"]
    assert {feature["number"] for feature in data["features"]} == set(range(1, 9))


def test_the_page_escapes_what_people_wrote_fetches_nothing_and_never_names_without_fidelity(found):
    folder, *_ = found
    page = (folder / "first" / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<svg") == 3
    assert not re.findall(r"(?:src|href)=\"https?:", page)
    for name in re.findall(r"<td[^>]*>(\d+\. [^<]+)</td>", page):
        assert re.search(r"\(r \d\.\d\d\)$", name)


def test_the_autoencoder_is_kept_and_the_same_seed_finds_the_same(found, tmp_path):
    folder, path, data, _ = found
    model = SparseAutoencoder.load(folder / "first")
    assert model.decoder_.shape == (8, 11)
    again = audited(path, out=tmp_path / "again").data
    assert again["features"] == data["features"]


def test_labels_that_reward_a_feature_are_turned_round_in_a_copy_and_the_effect_is_measured(found, tmp_path):
    _, path, data, _ = found
    asks = next(one for one in data["features"] if one["description"] == "questions back")
    changed = audited(path, out=tmp_path / "changed", against=(asks["number"],)).data["relabelled"]
    rows = [json.loads(line) for line in (tmp_path / "changed" / "relabelled.jsonl").read_text().splitlines()]
    assert len(rows) == data["comparisons"]
    assert sum(row["strength"] == 0 for row in rows) == changed["rows"] > 0
    assert changed["effects"][str(asks["number"])]["target"][1] > 0
    assert "What changed labels would teach" in (tmp_path / "changed" / "report.html").read_text()
    with pytest.raises(SettingsError, match="no feature 9"):
        audited(path, out=tmp_path / "wrong", against=(9,))


def test_people_who_differ_are_seen_and_one_person_is_told_why_not(found, tmp_path):
    folder, _, data, _ = found
    assert data["personal"]["people"] == 2
    assert "Where people differ" in (folder / "first" / "report.html").read_text()
    alone = feedback(tmp_path / "one.jsonl", 300, users=("ann",))
    outcome = audited(alone, out=tmp_path / "one")
    assert "personal" not in outcome.data
    assert "two are needed" in (tmp_path / "one" / "report.html").read_text()


def test_pairs_without_difference_are_dropped_and_counted(tmp_path):
    path = feedback(tmp_path / "votes.jsonl", 200)
    same = {"prompt": "p", "chosen": "tea bread.", "rejected": "lamp shop.", "user": "ann"}
    path.write_text(path.read_text() + "\n" + json.dumps(same))
    outcome = audited(path, out=tmp_path / "out")
    before = audited(feedback(tmp_path / "before.jsonl", 200), out=tmp_path / "before").data
    reason = "pairs between which the encoder sees no difference"
    assert outcome.data["dropped"][reason] == before["dropped"].get(reason, 0) + 1
    assert outcome.data["comparisons"] == before["comparisons"]
    assert "sees no difference" in outcome.text
    path.write_text("\n".join(json.dumps(same | {"prompt": f"p{n}"}) for n in range(30)))
    with pytest.raises(DataError, match="sees no difference in any of 30"):
        audited(path, out=tmp_path / "none")


def test_too_few_pairs_are_refused_with_what_to_set(tmp_path):
    path = feedback(tmp_path / "votes.jsonl", 40)
    with pytest.raises(DataError, match="n_features to"):
        audited(path, out=tmp_path / "few")


def test_one_response_in_nearly_all_pairs_is_parted_by_response(tmp_path):
    rng = np.random.default_rng(0)
    texts = ["! " * int(rng.integers(0, 4)) + "tea " * int(rng.integers(1, 9)) + f"{n}" for n in range(60)]
    rows = [
        {"prompt": "", "chosen": texts[a], "rejected": texts[b], "user": f"u{n % 40}"}
        for n, (a, b) in enumerate(rng.integers(60, size=(900, 2)))
        if a != b
    ]
    (tmp_path / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = audited(tmp_path / "votes.jsonl", out=tmp_path / "out", n_features=4, n_active=2).data
    assert data["parted_by"] == "response"
    assert data["largest_group"] == 1.0
    assert data["in_neither_part"] > 0


def test_messages_and_prompts_may_be_read(tmp_path):
    path = feedback(tmp_path / "votes.jsonl", 200)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["prompt"] = [{"role": "user", "content": row["prompt"]}]
        for side in ("chosen", "rejected"):
            row[side] = [{"role": "assistant", "content": row[side]}]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text, chat = (audited(tmp_path / name, out=tmp_path / name[:4]).data for name in ("votes.jsonl", "chat.jsonl"))
    assert text["features"] == chat["features"]
    assert audited(tmp_path / "votes.jsonl", out=tmp_path / "p", prompts=True).data["features"] == text["features"]


def test_a_chat_model_may_name_the_features(tmp_path, monkeypatch, own_cache, capsys):
    class Judge:
        name = "judge"

        def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
            asked = messages[-1]["content"]
            if "Which response has more" not in asked:
                return ['{"attribute": "asks a question"}'] * n
            a, b = asked.split("\n\nA: ")[1].split("\n\nB: ")
            return ['{"more": "%s"}' % ("tie" if ("?" in a) == ("?" in b) else "A" if "?" in a else "B")] * n

    monkeypatch.setattr(auditing, "chat_model", lambda spec: Judge())
    path = feedback(tmp_path / "votes.jsonl", 300)
    data = audited(path, out=tmp_path / "out", chat="judge", n_candidates=1, n_measured=20).data
    assert data["names_by"] == "judge"
    assert any(one["description"] == "asks a question" and one["kept"] for one in data["features"])
    assert "168 times at most" in capsys.readouterr().err


def test_data_may_come_from_the_store_settings(tmp_path):
    path = feedback(tmp_path / "votes.jsonl", 300)
    assert audited(None, data=Data(path=path, limit=200), out=tmp_path / "out").data["comparisons"] <= 200


def test_audits_of_several_sets_are_a_table_for_the_documentation(found, tmp_path):
    _, _, data, _ = found
    (tmp_path / "one.json").write_text(json.dumps(data))
    (tmp_path / "two.json").write_text(json.dumps(data | {"explained": {"5 features": None}}))
    rows = audits_table(tmp_path).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| one", "| two"]
    assert "more: questions back (0." in rows[0]
    assert "black box at chance" in rows[1]


def test_places_are_drawn_with_their_names():
    svg = report.places([(10.0, 60.0, "7")], axis="share", ylabel="wins", mark=50.0)
    assert ">7<" in svg
    assert svg.startswith("<svg")
