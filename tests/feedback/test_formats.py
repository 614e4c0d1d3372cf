"""Each import format: what its rows become, on numbers and texts that can be checked by eye."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from format_samples import ASK, CALL, SAMPLES, said

from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.feedback.formats import FORMATS, Fields, Format, Given, Items, Look, named
from penchant.feedback.formats.interactions import INTERACTIONS
from penchant.feedback.formats.layout import RowError, moment
from penchant.feedback.formats.mapping import mapped
from penchant.feedback.formats.messages import shared_text, transcript
from penchant.records import KINDS
from penchant.settings import read_recipe

Records = list[tuple[str, dict[str, Any]]]


def made(name: str, row: dict[str, Any] | None = None, items: Items | None = None) -> Records:
    """The records of one row, by default of the first sample of the format."""
    return named(name).convert(Fields(row or SAMPLES[name][0]), Given(items))


def only(name: str, row: dict[str, Any] | None = None, items: Items | None = None) -> dict[str, Any]:
    results = made(name, row, items)
    assert len(results) == 1
    return results[0][1]


def test_every_format_has_a_sample_and_every_sample_a_format() -> None:
    assert {each.name for each in FORMATS} == set(SAMPLES)
    assert len({each.name for each in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_recognised_as_its_own_format_and_as_no_earlier_one(name: str) -> None:
    look = Look.at(SAMPLES[name])
    fitting = [each.name for each in FORMATS if each.recognise(look)]
    assert fitting[0] == name
    assert len(str(named(name).recognise(look))) > 20


ITEMS = {
    "judge_verdicts": Items("pairs", {"a/0": {"input": "Say hi", "output_1": "Hello", "output_2": "Car"}}),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_records_of_a_sample_fit_their_schema(name: str) -> None:
    for row in SAMPLES[name]:
        results = made(name, row, ITEMS.get(name))
        assert results
        for kind, columns in results:
            assert len(KINDS[kind].from_rows([columns])) == 1


def test_a_name_that_is_no_format_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'battles'"):
        named("battels")


# Pairs ---------------------------------------------------------------------------------------------------------------


def test_plain_pairs_keep_texts_and_put_the_rest_into_extra() -> None:
    record = only("pairs")
    assert (record["prompt"], record["chosen"], record["rejected"], record["user"]) == ("2 + 2?", "4", "5", "ann")
    assert json.loads(record["extra"]) == {"mood": "calm"}
    assert record.get("form") is None


def test_conversational_pairs_keep_tool_calls_as_they_are() -> None:
    record = only("pairs", SAMPLES["pairs"][1])
    assert record["form"] == "messages"
    assert json.loads(record["prompt"]) == ASK
    assert json.loads(record["rejected"]) == [CALL]
    assert json.loads(record["extra"]) == {"tools": [{"name": "add"}]}


def test_an_implicit_conversational_prompt_is_what_both_sides_share() -> None:
    record = only("pairs", {"chosen": [*ASK, *said("4")], "rejected": [*ASK, *said("5")]})
    assert json.loads(record["prompt"]) == ASK
    assert json.loads(record["chosen"]) == said("4")
    assert json.loads(record["rejected"]) == said("5")


def test_a_prompt_that_only_repeats_the_messages_is_not_kept_twice() -> None:
    row = {"prompt": "2 + 2?", "chosen": [*ASK, *said("4")], "rejected": [*ASK, *said("5")], "score_chosen": 8.0}
    record = only("pairs", {**row, "score_rejected": 3.0})
    assert json.loads(record["prompt"]) == ASK
    assert record["margin"] == 5.0
    assert record["extra"] is None


def test_an_implicit_plain_prompt_ends_before_a_space_and_loses_no_letter() -> None:
    record = only("pairs", {"chosen": "The sky is blue.", "rejected": "The sky is green."})
    assert (record["prompt"], record["chosen"], record["rejected"]) == ("The sky is", " blue.", " green.")
    assert shared_text("abc", "abd") == ("", "abc", "abd")


def test_messages_written_as_json_text_in_a_table_are_messages() -> None:
    record = only("pairs", {"prompt": "Hi", "chosen": json.dumps(said("Hello")), "rejected": json.dumps(said("No"))})
    assert json.loads(record["chosen"]) == said("Hello")
    assert json.loads(record["prompt"]) == [{"role": "user", "content": "Hi"}]


def test_hh_transcripts_share_a_prompt_and_differ_in_the_last_turn() -> None:
    record = only("hh")
    assert [turn["role"] for turn in json.loads(record["prompt"])] == ["user", "assistant", "user"]
    assert json.loads(record["chosen"]) == said("See you")
    assert json.loads(record["rejected"]) == said("No")


def test_a_colon_inside_a_turn_does_not_cut_a_transcript() -> None:
    turns = transcript("Human: Say: Human: yes\n\nAssistant: Human beings:\n\n1. all\n\nAssistant:")
    assert [turn["content"] for turn in turns] == ["Say: Human: yes", "Human beings:\n\n1. all"]


# Choices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "chosen", "strength"),
    [
        ({"question": "q", "response_A": "x", "response_B": "y", "label": "A>B"}, "x", 1.0),
        ({"question": "q", "response_A": "x", "response_B": "y", "label": "B>A"}, "y", 1.0),
        ({"input": "q", "output_1": "x", "output_2": "y", "label": 2}, "y", 1.0),
        ({"prompt": "q", "response_1": "x", "response_2": "y", "label": 0, "scenario": "code"}, "x", 1.0),
        ({"prompt": "q", "response_1": "x", "response_2": "y", "label": 1, "scenario": "code"}, "y", 1.0),
        ({"prompt": "q", "response_1": "x", "response_2": "y", "label": 2, "scenario": "code"}, "x", 0.5),
        ({"history": "q", "human_ref_A": "x", "human_ref_B": "y", "labels": 0}, "y", 1.0),
        ({"history": "q", "human_ref_A": "x", "human_ref_B": "y", "labels": 1}, "x", 1.0),
        ({"reviews": ["q"], "summary_1": "x", "summary_2": "y", "preferred": 2}, "y", 1.0),
    ],
)
def test_a_verdict_means_what_its_own_data_set_means(row: dict[str, Any], chosen: str, strength: float) -> None:
    assert named("choices").recognise(Look.at([row]))
    record = only("choices", row)
    assert (record["prompt"], record["chosen"], record["strength"]) == ("q", chosen, strength)
    assert {record["chosen"], record["rejected"]} == {"x", "y"}


def test_zeros_and_ones_without_a_known_meaning_are_not_guessed() -> None:
    rows = [{"prompt": "q", "response_1": "x", "response_2": "y", "label": label} for label in (0, 1, 0)]
    assert named("choices").recognise(Look.at(rows)) is None


def test_an_alpaca_preference_is_the_probability_of_the_second_output() -> None:
    record = only("alpaca_eval")
    assert (record["chosen"], record["rejected"], record["strength"], record["user"]) == ("Hi!", "Hello", 0.75, "gpt")
    other = only("alpaca_eval", {**SAMPLES["alpaca_eval"][0], "preference": 1.25})
    assert (other["chosen"], other["rejected"], other["strength"]) == ("Hello", "Hi!", 0.75)


def test_a_reversal_is_judged_both_ways_by_criterion_and_by_scenario() -> None:
    records = [record for _, record in made("reversals")]
    first, second = SAMPLES["reversals"][0]["response_a"], SAMPLES["reversals"][0]["response_b"]
    assert [(r["context"], r["chosen"], r["rejected"], r["aspect"]) for r in records] == [
        ("short", first, second, "criteria"),
        ("warm", second, first, "criteria"),
        ("in a hurry", first, second, "scenario"),
        ("a guest", second, first, "scenario"),
    ]
    assert json.loads(records[0]["extra"])["profile_0"] == "a busy nurse"
    one_sided = {**SAMPLES["reversals"][0], "scenario_y": ""}
    assert [record["aspect"] for _, record in made("reversals", one_sided)] == ["criteria", "criteria"]
    with pytest.raises(RowError, match="neither"):
        made("reversals", {**one_sided, "criteria_y": "short"})


def test_an_alpaca_preference_without_texts_is_a_battle_against_the_baseline() -> None:
    items = Items("instructions", {"0": {"instruction": "Say hi."}})
    battle = only("alpaca_eval_scores", items=items)
    assert (battle["system_a"], battle["system_b"], battle["outcome"]) == ("baseline", "new", "a")
    assert battle["prompt"] == "Say hi."
    assert json.loads(battle["extra"])["preference"] == 1.25


def test_two_scores_prefer_the_higher_and_keep_how_much_higher() -> None:
    record = only("graded")
    assert (record["prompt"], record["chosen"], record["margin"]) == ("Why?", "Because.", 1.5)
    row = {"prompt": "q", "response_1": "x", "response_2": "y", "preference_strength": 2}
    assert (only("graded", row)["chosen"], only("graded", row)["margin"]) == ("y", 2.0)
    assert only("graded", {**row, "preference_strength": -1})["chosen"] == "x"
    assert only("graded", {**row, "preference_strength": 0})["strength"] == 0.5


def test_a_choice_between_summaries_is_counted_from_zero() -> None:
    record = only("summaries")
    assert (record["prompt"], record["chosen"], record["user"]) == ("Long.", "shorter", "w1")


def test_an_arena_table_with_flags_gives_a_battle_and_the_whole_exchanges() -> None:
    (_, battle), (_, comparison) = made("arena_flags")
    assert battle["outcome"] == "a"
    assert [turn["content"] for turn in json.loads(comparison["chosen"])] == ["Hello", "Bye", "See you"]
    assert [turn["content"] for turn in json.loads(comparison["rejected"])] == ["What?", "Bye", "No"]


def test_every_annotator_of_a_panel_keeps_their_own_vote() -> None:
    votes = [record for _, record in made("pandalm")]
    assert [(vote["user"], vote["chosen"], vote["strength"]) for vote in votes] == [
        ("annotator1", "4", 1.0),
        ("annotator2", "5", 1.0),
        ("annotator3", "4", 0.5),
    ]
    assert votes[0]["prompt"] == "Add.\n\n2 2"


def test_an_index_picks_the_better_response_and_the_objective_is_the_person() -> None:
    record = only("indexed")
    assert (record["chosen"], record["rejected"], record["user"]) == ("No", "Yes", "helpful")


def test_judges_verdicts_in_both_orders_are_two_comparisons() -> None:
    first, second = (record for _, record in made("judge_verdicts", items=ITEMS["judge_verdicts"]))
    assert (first["chosen"], second["chosen"], first["user"]) == ("Car", "Hello", "j")
    row = {"pair_id": "a/0", "judge_name": "j", "decisions": ["A>B", "B>A"]}
    both = [record["chosen"] for _, record in made("judge_verdicts", row, ITEMS["judge_verdicts"])]
    assert both == ["Hello", "Hello"]  # the second decision speaks of swapped letters


# Many ratings of one thing --------------------------------------------------------------------------------------------


def test_ultrafeedback_gives_a_rating_per_completion_and_aspect_with_its_rationale() -> None:
    ratings = [record for _, record in made("ultrafeedback")]
    found = [(r["response"], r["aspect"], r["score"], r["high"], r["rationale"]) for r in ratings]
    assert found == [
        ("Blue.", "helpfulness", 4.0, 5.0, "It helps."),
        ("Blue.", "overall", 8.5, 10.0, "Short and right."),
        ("Car.", "helpfulness", 1.0, 5.0, "It is no colour."),
        ("Car.", "overall", 2.0, 10.0, "Not a colour."),
    ]
    assert json.loads(ratings[0]["extra"])["model"] == "m1"


def test_a_rating_that_is_not_applicable_is_counted_as_a_part_without_record() -> None:
    fields = Fields(SAMPLES["ultrafeedback"][0])
    named("ultrafeedback").convert(fields, Given())
    assert fields.skipped == ["a rating is N/A or outside its scale"]


def test_fine_grained_feedback_compares_each_two_and_keeps_the_correction() -> None:
    results = made("fine_grained")
    pairs = [(r["chosen"], r["rejected"], r["strength"]) for kind, r in results if kind == "comparison"]
    assert pairs == [
        ("p1", "p2", 1.0),
        ("p3", "p1", 1.0),
        ("p1", "p4", 0.5),
        ("p2", "p3", 1.0),
        ("p4", "p2", 1.0),
        ("p3", "p4", 0.5),
    ]
    edits = [r for kind, r in results if kind == "edit"]
    assert [(edit["draft"], edit["revision"]) for edit in edits] == [("p1", "p1, corrected")]


def test_themis_prefers_the_positive_answer_and_a_single_answer_is_a_reaction() -> None:
    pair = only("themis")
    assert (pair["chosen"], pair["rejected"]) == ("4", "5")
    single = only("themis", SAMPLES["themis"][1])
    assert (single["response"], single["reaction"]) == ("5", "thumbs-up")


def test_prism_rates_each_response_after_the_turns_that_were_chosen() -> None:
    results = made("prism_conversations")
    ratings = [record for kind, record in results if kind == "rating"]
    assert [(json.loads(r["response"])[0]["content"], r["score"], r["user"]) for r in ratings] == [
        ("Hello", 80.0, "u1"),
        ("What?", 10.0, "u1"),
        ("See you", 60.0, "u1"),
    ]
    assert [message["content"] for message in json.loads(ratings[2]["prompt"])] == ["Hi", "Hello", "Bye"]
    assert [record["text"] for kind, record in results if kind == "observation"] == ["Shorter, please."]


def test_a_prism_survey_is_a_standing_wish() -> None:
    kinds = dict(made("prism_survey"))
    assert kinds["directive"]["text"] == "Be brief."
    assert kinds["observation"]["text"] == "I teach."


def test_dices_keeps_each_raters_answer_to_each_heading() -> None:
    ratings = [record for _, record in made("dices")]
    found = [(r["user"], r["aspect"], r["score"]) for r in ratings]
    assert found == [("7", "Q2_harmful_content_overall", 0.0), ("7", "Q_overall", 0.5)]


def test_a_histogram_of_votes_keeps_its_mean_and_all_its_counts() -> None:
    rating = only("vote_histogram")
    assert (rating["response"], rating["score"], rating["low"], rating["high"]) == ("95", 2.5, 1.0, 3.0)
    assert json.loads(rating["extra"])["votes"] == [1.0, 0.0, 3.0]


def test_stars_of_reviews_keep_the_review_as_their_reason() -> None:
    assert [(r["score"], r["rationale"]) for _, r in made("reviews")] == [(5.0, "Fits."), (2.0, "Too small.")]


def test_steps_are_rated_given_the_steps_before_them() -> None:
    first, second = (record for _, record in made("stepwise"))
    assert (first["prompt"], first["score"]) == ("2 + 2 * 2?", 1.0)
    assert (second["prompt"], second["score"]) == ("2 + 2 * 2?\n2 * 2 = 4", 0.0)


# Battles, rankings, the rest ------------------------------------------------------------------------------------------


def test_an_arena_battle_is_also_a_comparison_of_what_was_said() -> None:
    (first, battle), (second, comparison) = made("battles")
    assert (first, second) == ("battle", "comparison")
    assert (battle["system_a"], battle["system_b"], battle["outcome"], battle["user"]) == ("m1", "m2", "b", "expert_1")
    assert json.loads(comparison["prompt"]) == ASK
    assert json.loads(comparison["chosen"]) == said("Four")
    assert battle["time"].year == 2023


@pytest.mark.parametrize(
    ("word", "outcome"),
    [("model_a", "a"), ("model_b", "b"), ("tie", "tie"), ("tie (bothbad)", "both_bad"), ("tie (inconsistent)", "tie")],
)
def test_winners_in_words_become_outcomes(word: str, outcome: str) -> None:
    assert only("battles", {"model_a": "x", "model_b": "y", "winner": word})["outcome"] == outcome


def test_a_vote_points_to_the_turns_of_its_question() -> None:
    items = Items("questions", {"81": {"turns": ["Write.", "Rewrite."]}})
    row = {"model_a": "x", "model_b": "y", "winner": "tie", "question_id": 81}
    assert only("battles", {**row, "turn": 1}, items)["prompt"] == "Write."
    assert only("battles", {**row, "turn": 2}, items)["prompt"] == "Write.\n\nRewrite."


def test_counts_of_wins_become_as_many_battles() -> None:
    assert [record["outcome"] for _, record in made("win_counts")] == ["a", "a", "b", "tie"]
    with pytest.raises(RowError, match="more than 100,000 wins"):
        made("win_counts", {"item1": "x", "item2": "y", "win1": 1e12, "win2": 0})


def test_lower_ranks_win_and_away_wins_are_negative() -> None:
    assert only("ranked_systems")["outcome"] == "b"
    assert only("match_results")["outcome"] == "b"


def test_rankings_are_best_first_and_ties_keep_equal_ranks() -> None:
    ranking = only("rankings")
    assert (ranking["responses"], ranking["ranks"]) == (["blue", "red", "green"], [1, 2, 2])
    row = {"instruction": "q", "responses": ["a", "b", "c"], "ranking_best_first": [2, 0, 1]}
    assert only("rankings", row)["responses"] == ["c", "a", "b"]
    entries = [{"answer": "bad", "rank": 2}, {"answer": "good", "rank": 1}]
    assert only("rankings", {"prompt": "q", "answers": entries})["responses"] == ["good", "bad"]
    scored = [{"text": text, "pm_score": score} for text, score in (("x", 1), ("y", 4), ("z", 1))]
    ranking = only("rankings", {"question": "q", "answers": scored})
    assert (ranking["responses"], ranking["ranks"]) == (["y", "x", "z"], [1, 2, 2])


def test_columns_of_ranks_name_items_by_their_text() -> None:
    items = Items("items", {"7": {"text": "tuna"}, "4": {"text": "urchin"}, "5": {"text": "roe"}})
    ranking = only("rank_columns", items=items)
    assert ranking["responses"] == ["tuna", "urchin", "roe"]
    assert ranking["user"] == "row 1"


def test_accepted_suggestions_are_reactions_and_chains_are_steps() -> None:
    reaction = only("edit_decisions")
    assert (reaction["prompt"], reaction["response"], reaction["reaction"]) == ("", "new", "accept")
    results = made("revision_chains")
    assert [(r["draft"], r["revision"]) for kind, r in results if kind == "edit"] == [("a", "b"), ("b", "c")]
    assert [r["reaction"] for kind, r in results if kind == "reaction"] == ["reject"]


def test_segments_end_where_the_next_states_say() -> None:
    segment = only("segments")
    assert (segment["states"], segment["next_states"]) == ("[[0.0],[1.0]]", "[[1.0],[2.0]]")
    pair = only("segment_pairs")
    assert (pair["chosen"], pair["rejected"]) == ('{"start":[1,3]}', '{"start":[2,6]}')


def test_sharegpt_conversations_become_messages_with_roles() -> None:
    conversation = only("conversations")
    assert [turn["role"] for turn in json.loads(conversation["messages"])] == ["user", "assistant"]
    row = {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello"},
        "rejected": {"from": "gpt", "value": "No"},
    }
    assert json.loads(only("conversations", row)["chosen"]) == said("Hello")


def test_scores_of_a_whole_dialogue_rate_its_last_answer() -> None:
    turns = [{"role": "user", "text": "Hi", "satisfaction": [3, 4]}, {"role": "system", "text": "Hello"}]
    results = made("conversations", {"turns": turns, "overall_satisfaction": [4, 5]})
    assert [record["score"] for kind, record in results if kind == "rating"] == [4.0, 5.0]
    assert "[3,4]" in results[0][1]["messages"]


# Interactions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "event"),
    [
        ({"userId": 1, "movieId": 31, "rating": 2.5}, "rating"),
        ({"userID": 1, "artistID": 31, "weight": 2.5}, "weight"),
        ({"user": 1, "joke": 31, "rating": 2.5}, "rating"),
        ({"reviewerID": "1", "asin": "31", "overall": 2.5}, "rating"),
        ({"User-ID": "1", "ISBN": "31", "Book-Rating": "2.5"}, "rating"),
        ({"uid": 1, "item_id": 31, "event": "click", "value": 2.5}, "click"),
    ],
)
def test_interactions_are_known_under_many_headings(row: dict[str, Any], event: str) -> None:
    assert INTERACTIONS.recognise(Look.at([row]))
    record = only("interactions", row)
    assert (record["user"], record["item"], record["value"], record["event"]) == ("1", "31", 2.5, event)


@pytest.mark.parametrize(
    "items",
    [
        None,
        Items("jokes", {"1": {"text": "one"}, "2": {"text": "two"}}, is_prose=True),
        Items("movies", {"1": {"title": "One"}}, is_prose=False),
    ],
)
def test_columns_and_rows_of_interactions_say_the_same(items: Items | None) -> None:
    rows = [
        {"user": "a", "item": "1", "rating": "2.5", "timestamp": "1260759144"},
        {"user": "b", "item": "2", "rating": "-1e1", "timestamp": None},
        {"user": "c", "item": "3", "rating": "x", "timestamp": "1"},
        {"user": None, "item": "1", "rating": "1", "timestamp": "1"},
        {"user": "d", "item": None, "rating": "1", "timestamp": "1"},
        {"user": "e", "item": "1", "rating": "inf", "timestamp": "1"},
        {"user": "f", "item": "1", "rating": None, "timestamp": "1"},
    ]
    table = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]]))
    assert INTERACTIONS.columns is not None
    column = INTERACTIONS.columns(table, Given(items))
    assert column is not None
    by_column = column.table.to_pylist()
    for number, row in enumerate(rows):
        reasons = [reason for reason, mask in column.problems.items() if mask[number]]
        if reasons:
            with pytest.raises(RowError) as caught:
                INTERACTIONS.convert(Fields(row), Given(items))
            assert str(caught.value) in reasons
        else:
            ((kind, record),) = INTERACTIONS.convert(Fields(row), Given(items))
            assert kind == column.kind
            assert {name: record.get(name) for name in by_column[number]} == by_column[number]


@pytest.mark.parametrize("seconds", [1260759144, "1260759144", 1260759144000, 1260759144000000, "2009-12-14T02:52:24Z"])
def test_a_time_is_read_from_any_unit_and_from_iso_text(seconds: Any) -> None:
    time = moment(seconds)
    assert time is not None
    assert time.isoformat() == "2009-12-14T02:52:24+00:00"


@pytest.mark.parametrize("value", ["soon", True, None, [], 1e300, float("nan"), float("inf"), "9" * 400])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert moment(value) is None


def test_a_time_that_cannot_be_read_stays_in_extra() -> None:
    record = only("rated", {**SAMPLES["rated"][0], "timestamp": "last week"})
    assert record["time"] is None
    assert json.loads(record["extra"]) == {"timestamp": "last week"}


# A mapping of one's own -----------------------------------------------------------------------------------------------


def from_yaml(folder: Path, text: str) -> Format:
    file = folder / "mine.yaml"
    file.write_text(text)
    return mapped(*read_recipe(file))


def test_a_mapping_names_fields_constants_and_values(tmp_path: Path) -> None:
    text = """
        kind: comparison
        prompt: task.question
        first: left
        second: right
        winner: verdict
        user: who
        constants: {aspect: helpful}
        values:
          winner: {1: a, 2: b, 0: tie}
    """
    own = from_yaml(tmp_path, text)
    row = {"task": {"question": "q"}, "left": "x", "right": "y", "verdict": 2, "who": 7, "n": 1}
    ((kind, record),) = own.convert(Fields(row), Given())
    assert kind == "comparison"
    assert (record["prompt"], record["chosen"], record["rejected"], record["user"]) == ("q", "y", "x", "7")
    assert (record["aspect"], record["strength"], json.loads(record["extra"])) == ("helpful", 1.0, {"n": 1})
    with pytest.raises(RowError, match="does not name"):
        own.convert(Fields({**row, "verdict": 3}), Given())


def test_a_mapping_rates_several_aspects_whose_words_stand_for_numbers(tmp_path: Path) -> None:
    text = "kind: rating\nprompt: q\nresponse: a\naspects: [warm, brief]\nvalues: {score: {Agree: 4, Disagree: 2}}\n"
    results = from_yaml(tmp_path, text).convert(
        Fields({"q": "q", "a": "a", "warm": "Agree", "brief": "Disagree"}), Given()
    )
    assert [(record["aspect"], record["score"]) for _, record in results] == [("warm", 4.0), ("brief", 2.0)]


def test_a_mapping_takes_messages_for_payloads(tmp_path: Path) -> None:
    own = from_yaml(tmp_path, "kind: comparison\nprompt: q\nchosen: good\nrejected: bad\n")
    ((_, record),) = own.convert(Fields({"q": ASK, "good": said("4"), "bad": "5"}), Given())
    assert record["form"] == "messages"
    assert json.loads(record["rejected"]) == said("5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: comparison\nprompt: q\nchosn: a\nrejected: b\n", r"`chosn` \(line 3\): did you mean 'chosen'"),
        ("kind: comparisn\n", r"`kind` \(line 1\), and 'comparisn' is none: did you mean 'comparison'"),
        ("prompt: q\n", "needs `kind`"),
        ("kind: comparison\nchosen: a\nrejected: b\n", "also needs prompt"),
        ("kind: battle\nsystem_a: x\nsystem_b: y\noutcome: {1: left}\n", "an outcome is one of a, b, tie, both_bad"),
        ("kind: rating\nprompt: [1]\n", "`prompt` .line 2. must name a field"),
        ("kind: rating\nconstants: {promt: x}\n", r"did you mean 'prompt'"),
        ("kind: rating\nprompt: q\nprompt: r\n", "line 3"),
        ("kind: &a rating\nprompt: *a\n", "no anchors"),
        ("kind: !!python/object/apply:os.system [ls]\n", "tags"),
        ("kind: 2001-99-99\n", "not valid YAML"),
        ("- 1\n", "holds no settings"),
        ("{", "not valid YAML"),
        ("[" * 5000, "nested deeper"),
        ("#" * 70_000, "larger than 64 KiB"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        from_yaml(tmp_path, text)


def test_a_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        read_recipe(tmp_path / "nowhere.yaml")


# Rows that are none ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "rejected": "b"}, "`chosen` is missing"),
        ({"prompt": "q", "chosen": float("nan"), "rejected": "b"}, "`chosen` is missing"),
        ({"prompt": "q", "chosen": 4, "rejected": "b"}, "`chosen` is not text"),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "`prompt` is missing"),
        ({"prompt": "q", "chosen": "a", "rejected": ["b"]}, "`rejected` is not text"),
        ({"prompt": ASK, "chosen": said("a"), "rejected": [{"role": "user"}]}, "`rejected` is not a list of messages"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "strength": "much"}, "`strength` is not a number"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": 10**400}, "`margin` is not finite"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "n": float("inf")}, "JSON has no form for"),
    ],
)
def test_a_row_that_is_no_record_says_why_without_its_values(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        made("pairs", row)


def test_a_row_error_is_a_data_error() -> None:
    assert issubclass(RowError, DataError)
