"""What is done to rows: every number is the one the models give when asked directly, and no row is read as another."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tiny_model

from penchant.apps.data import Data
from penchant.apps.learn import learn, loaded
from penchant.apps.tasks import Encode, Mine, Sample, Score, _uncached
from penchant.encoders import Cached, Joined, MiniLM, encode_turns
from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.exchange import kind_of, with_kind
from penchant.feedback import pairing
from penchant.preference import BradleyTerry
from penchant.records import Comparisons, Conversations, Edits, Rankings, Ratings, canonical_json
from penchant.style import Style
from penchant.turns import Turn

PROMPTS = ["Shall we go?", "Name a colour.", "Why?"]
ANSWERS = [["No.", "Yes, let us go."], ["Blue."], ["Because.", "", "Nobody knows."]]


def done(task, rows, first=0):
    table, counts = task.ready()(rows, np.arange(first, first + len(rows)))
    return table, counts


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Ann likes short answers, Bob long ones: what `penchant learn` leaves, and the model in it."""
    place = tmp_path_factory.mktemp("people")
    short, long = "No.", "No, because it is late, it rains, and the shop is closed today anyway."
    votes = [
        {"prompt": f"Shall we go {i}?", "chosen": f"{c} {i}", "rejected": f"{r} {i}", "user": user}
        for i in range(12)
        for user, c, r in (("ann", short, long), ("bob", long, short))
    ]
    (place / "votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    learn(data=Data(path=place / "votes.jsonl"), encoder="style", out=place / "model")
    return place / "model", loaded(place / "model")


# Score ---------------------------------------------------------------------------------------------------------------


def test_log_probabilities_are_those_of_the_policy_for_every_way_to_hold_answers(language):
    from penchant.policies.language import LanguagePolicy

    asked = [(p, a) for p, answers in zip(PROMPTS, ANSWERS, strict=True) for a in answers]
    truth = [
        row[0] for row in LanguagePolicy(language).log_probabilities([p for p, _ in asked], [[a] for _, a in asked])
    ]
    score = Score(language)
    lists, _ = done(score, pa.table({"prompt": PROMPTS, "responses": ANSWERS}))
    assert [len(row) for row in lists["log_probabilities"].to_pylist()] == [2, 1, 3]
    flat = [value for row in lists["log_probabilities"].to_pylist() for value in row]
    np.testing.assert_allclose(flat, [one.sum for one in truth], rtol=1e-4)
    assert [n for row in lists["n_tokens"].to_pylist() for n in row] == [one.n_tokens for one in truth]
    single, _ = done(
        score, pa.table({"prompt": [p for p, _ in asked], "response": [a for _, a in asked], "id": range(6)})
    )
    np.testing.assert_allclose(single["log_probability"].to_pylist(), [one.sum for one in truth], rtol=1e-4)
    assert single.column_names == ["prompt", "response", "id", "log_probability", "n_tokens"]
    pairs, _ = done(score, pa.table({"prompt": PROMPTS[:1], "chosen": ["Yes, let us go."], "rejected": ["No."]}))
    np.testing.assert_allclose(pairs["chosen_log_probability"].to_pylist(), [truth[1].sum], rtol=1e-4)
    np.testing.assert_allclose(pairs["rejected_log_probability"].to_pylist(), [truth[0].sum], rtol=1e-4)


def test_a_context_goes_before_the_prompt_and_messages_are_read_as_messages(language):
    from penchant.policies.language import LanguagePolicy

    chat = canonical_json([{"role": "user", "content": "Why?"}])
    said = canonical_json([{"role": "assistant", "content": "So."}])
    rows = pa.table(
        {
            "prompt": ["Why?", chat],
            "response": ["So.", said],
            "context": ["Be brief.", None],
            "form": [None, "messages"],
        }
    )
    truth = LanguagePolicy(language).log_probabilities(
        ["Why?", "Why?"], [["So."], ["So."]], condition=["Be brief.", None]
    )
    found, _ = done(Score(language), rows)
    np.testing.assert_allclose(found["log_probability"].to_pylist(), [row[0].sum for row in truth], rtol=1e-4)
    assert truth[0][0].sum != pytest.approx(truth[1][0].sum)


def test_rewards_of_a_reward_model_are_its_own(language, tmp_path):
    from penchant.policies.reward import LanguageReward

    model = LanguageReward(language)
    model.save(tmp_path / "reward")
    found, _ = done(Score(str(tmp_path / "reward")), pa.table({"prompt": PROMPTS, "responses": ANSWERS}))
    truth = model.rewards(PROMPTS, ANSWERS)
    for ours, theirs in zip(found["rewards"].to_pylist(), truth, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_rewards_of_a_model_of_people_are_of_the_person_of_each_row_and_strangers_are_counted(people):
    folder, model = people
    users = ["bob", "ann", None, "eve", "bob"]
    rows = pa.table({"prompt": ["Why?"] * 5, "responses": [["No.", "No, because it rains today."]] * 5, "user": users})
    found, counts = done(Score(str(folder)), rows)
    for user, rewards in zip(users, found["rewards"].to_pylist(), strict=True):
        np.testing.assert_allclose(rewards, model.reward(["Why?"] * 2, rows["responses"][0].as_py(), user=user))
    assert found["rewards"][0].as_py()[1] > found["rewards"][0].as_py()[0]  # Bob likes it long
    assert found["rewards"][1].as_py()[1] < found["rewards"][1].as_py()[0]
    assert counts == {"answers scored by everybody's taste, as nothing is known of their person": 2}
    everybody, counts = done(Score(str(folder), user="ann"), rows)
    assert everybody["rewards"].to_pylist() == [found["rewards"][1].as_py()] * 5
    assert counts == {}


def test_what_cannot_score_says_so(people, language, tmp_path):
    folder, _ = people
    rows = pa.table({"prompt": PROMPTS, "responses": ANSWERS})
    for task, given, error, words in (
        (Score(), rows, SettingsError, "--score.model"),
        (Score(str(folder), user="nn"), rows, UnknownNameError, "'ann'"),
        (Score(language, user="ann"), rows, SettingsError, "no model of people"),
        (Score(str(folder)), pa.table({"prompt": PROMPTS, "text": PROMPTS}), SettingsError, "`prompt`, `text`"),
        (Score(str(folder)), rows.append_column("rewards", pa.array([[0.0]] * 3)), SettingsError, "would be lost"),
        (
            Score(str(folder)),
            pa.table({"prompt": ["a", None], "response": ["b", "c"]}),
            DataError,
            "`prompt` is missing",
        ),
        (
            Score(str(folder)),
            pa.table({"prompt": ["a"], "responses": [["b", None]]}),
            DataError,
            "`responses` is missing",
        ),
    ):
        with pytest.raises(error, match=words):
            done(task, given)


def test_a_reward_that_is_no_number_is_an_error(people, monkeypatch):
    monkeypatch.setattr(BradleyTerry, "reward", lambda self, prompts, responses, **_: np.full(len(responses), np.nan))
    with pytest.raises(DataError, match=r"reward is not finite \(1 of 1 answers\)"):
        done(Score(str(people[0])), pa.table({"prompt": ["a"], "response": ["b"]}))


# Sample --------------------------------------------------------------------------------------------------------------


def test_samples_depend_on_the_seed_and_the_number_of_the_row_they_begin_with_only(language):
    rows = pa.table({"prompt": PROMPTS, "id": [7, 8, 9]})
    task = Sample(language, n=3, max_new_tokens=6, temperature=1.5)
    found, _ = done(task, rows)
    assert [len(row) for row in found["responses"].to_pylist()] == [3, 3, 3]
    assert found["id"].to_pylist() == [7, 8, 9]
    assert done(task, rows)[0].equals(found)
    assert not done(task, rows, first=3)[0].equals(found)
    assert not done(Sample(language, n=3, max_new_tokens=6, temperature=1.5, seed=1), rows)[0].equals(found)


def test_greedy_samples_are_those_of_the_policy_and_messages_are_answered_with_messages(language):
    from penchant.policies.language import LanguagePolicy

    chat = canonical_json([{"role": "user", "content": "Why?"}])
    rows = pa.table({"prompt": ["Why?", chat], "form": [None, "messages"], "context": ["Be brief.", "Be brief."]})
    found, _ = done(Sample(language, n=1, temperature=0, max_new_tokens=6), rows)
    [[truth]] = LanguagePolicy(language).draw(["Why?"], condition="Be brief.", temperature=0, max_new_tokens=6)
    as_text, as_messages = (row[0] for row in found["responses"].to_pylist())
    assert as_text == truth.text
    assert json.loads(as_messages) == [{"role": "assistant", "content": truth.text}]
    assert found["sampled_tokens"].to_pylist() == [[len(truth.tokens)]] * 2
    np.testing.assert_allclose(found["sampled_log_probabilities"].to_pylist(), [[sum(truth.log_probabilities)]] * 2)


def test_a_prompt_that_leaves_no_room_is_an_error_of_its_row(language):
    with pytest.raises(DataError, match="leaves no room"):
        done(Sample(language), pa.table({"prompt": ["long " * 100]}))


# Encode --------------------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_encoder_for_answers_prompts_and_any_column():
    rows = pa.table({"prompt": PROMPTS, "responses": ANSWERS, "note": ["a", "b b", "c"]})
    turns = [Turn(p, a) for p, answers in zip(PROMPTS, ANSWERS, strict=True) for a in answers]
    found, _ = done(Encode("style"), rows)
    vectors = [vector for row in found["vectors"].to_pylist() for vector in row]
    np.testing.assert_array_equal(np.array(vectors, np.float32), encode_turns(Style(), turns))
    for task, given, texts in (
        (Encode("style", "note"), rows, ["a", "b b", "c"]),
        (Encode("style"), rows.select(["prompt"]), PROMPTS),
    ):
        found, _ = done(task, given)
        assert pa.types.is_fixed_size_list(found.schema.field("vector").type)
        np.testing.assert_array_equal(np.array(found["vector"].to_pylist(), np.float32), Style().encode(texts))
    with pytest.raises(SettingsError, match="no `nott`"):
        done(Encode("style", "nott"), rows)


def test_the_cache_of_this_account_is_neither_asked_nor_filled():
    joined = _uncached(Joined(Style(), Cached(MiniLM())))
    assert [type(encoder) for encoder in joined.encoders] == [Style, MiniLM]
    assert joined.name == Joined(Style(), MiniLM()).name


# Mine ----------------------------------------------------------------------------------------------------------------

SCORED = pa.table(
    {
        "prompt": ["a", "b", "c", "d"],
        "responses": [["x", "y", "z"], ["x", "y"], ["x"], ["x", "x", "y"]],
        "rewards": [[0.0, 2.0, 1.0], [1.0, 1.0], [3.0], [5.0, 4.0, 4.5]],
        "user": ["ann", None, None, "bob"],
        "id": [1, 2, 3, 4],
    }
)


def test_the_best_answer_beats_the_worst_and_what_says_nothing_is_counted():
    pairs, counts = done(Mine(), SCORED)
    assert kind_of(pairs.schema) == "comparison"
    assert pairs.select(["prompt", "chosen", "rejected", "user", "strength"]).to_pylist() == [
        {"prompt": "a", "chosen": "y", "rejected": "x", "user": "ann", "strength": 1.0}
    ]
    assert json.loads(pairs["extra"][0].as_py()) == {"id": 1, "score_chosen": 2.0, "score_rejected": 0.0}
    assert counts == {"tied pairs": 1, "prompts with fewer than two answers": 1, "the same response judged twice": 1}


def test_all_answers_against_all():
    pairs, counts = done(Mine(pairs="all"), SCORED)
    found = [tuple(row.values()) for row in pairs.select(["prompt", "chosen", "rejected"]).to_pylist()]
    assert found == [("a", "y", "z"), ("a", "y", "x"), ("a", "z", "x"), ("d", "x", "y"), ("d", "y", "x")]
    assert sum(counts.values()) == 3


@pytest.mark.parametrize("rewards", [[1.0], None, [1.0, None, 2.0], [1.0, float("nan"), 2.0]])
def test_numbers_that_do_not_fit_the_answers_are_an_error(rewards):
    rows = pa.table(
        {"prompt": ["a"], "responses": [["x", "y", "z"]], "rewards": pa.array([rewards], pa.list_(pa.float64()))}
    )
    with pytest.raises(DataError, match="one finite number for each"):
        done(Mine(), rows)


RATED = Ratings.from_rows(
    [
        {"prompt": f"q{i % 5}", "response": f"r{i}", "score": float(i * 7 % 11), "user": f"u{i % 3}", "source": "s"}
        for i in range(60)
    ]
)
RANKED = Rankings.from_rows([{"prompt": "q", "responses": ["x", "y", "z"], "ranks": [2, 1, 2], "user": "ann"}])
EDITED = Edits.from_rows([{"draft": "a", "revision": "b", "user": "ann"}, {"draft": "c", "revision": "c"}])


@pytest.mark.parametrize("records", [RATED, RANKED, EDITED], ids=lambda records: records.kind)
@pytest.mark.parametrize("says_its_kind", [True, False])
def test_records_become_the_comparisons_that_pairing_makes_of_them(records, says_its_kind):
    rows = with_kind(records) if says_its_kind else records.table
    pairs, counts = done(Mine(), rows)
    truth, lost = pairing.comparisons(records)
    assert Comparisons(pairs.replace_schema_metadata(None)).table.equals(truth.table)
    assert counts == lost


def test_rows_that_are_no_records_are_counted_and_the_others_are_paired():
    rows = pa.table(
        {
            "prompt": ["q"] * 4,
            "response": ["a", "b", "c", "d"],
            "score": [1.0, float("nan"), 3.0, None],
            "user": ["ann"] * 4,
            "extra": ['{"page":1}', None, "no JSON", None],
            "tag": [None, "x", "y", "z"],
        }
    )
    pairs, counts = done(Mine(), rows)
    assert pairs.select(["chosen", "rejected"]).to_pylist() == [{"chosen": "c", "rejected": "a"}]
    assert counts == {
        "rows that are no rating: `score` is missing": 1,
        "rows that are no rating: `score` is not finite": 1,
    }


def test_everything_that_one_person_judged_is_given_together_and_single_rows_are_left_where_they_are():
    keys = Mine().together(RATED.table)
    assert [key == keys[0] for key in keys] == [user == "u0" for user in RATED.table["user"].to_pylist()]
    assert Mine().together(EDITED.table) is None
    assert Mine().together(SCORED) is None


def test_samples_are_no_ranking_and_conversations_no_comparisons():
    for rows in (
        pa.table({"prompt": ["a"], "responses": [["x", "y"]]}),
        with_kind(Conversations.from_rows([{"messages": "[]"}])),
    ):
        with pytest.raises(SettingsError, match="No comparisons follow from"):
            done(Mine(), rows)
