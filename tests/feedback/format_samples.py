"""One small valid file per import format, as rows; the tests of formats and the fuzzing both start from these."""

from typing import Any

ASK = [{"role": "user", "content": "2 + 2?"}]
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":2}'}}],
}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


SAMPLES: dict[str, list[dict[str, Any]]] = {
    "records": [
        {"prompt": "Tea?", "chosen": "Yes", "rejected": "No", "strength": 0.75, "source": "here", "extra": '{"n":1}'}
    ],
    "ultrafeedback": [
        {
            "source": "evol_instruct",
            "instruction": "Name a colour.",
            "models": ["m1", "m2"],
            "completions": [
                {
                    "model": "m1",
                    "response": "Blue.",
                    "principle": "helpfulness",
                    "critique": "Short and right.",
                    "overall_score": 8.5,
                    "annotations": {
                        "helpfulness": {"Rating": "4", "Rationale": "x", "Rationale For Rating": "It helps."},
                        "honesty": {"Rating": "N/A", "Rationale": "Nothing to be honest about."},
                    },
                },
                {
                    "model": "m2",
                    "response": "Car.",
                    "critique": "Not a colour.",
                    "overall_score": 2,
                    "annotations": {"helpfulness": {"Rating": "1", "Rationale": "It is no colour."}},
                },
            ],
        }
    ],
    "fine_grained": [
        {
            "id": 1,
            "question": "Who?",
            "passages": [["T", "He did."]],
            "prediction 1": "p1",
            "prediction 2": "p2",
            "prediction 3": "p3",
            "prediction 4": "p4",
            "preference": [1, 2, 0, 1, 2, 0],
            "feedback": {"errors": [], "corrected-prediction": "p1, corrected"},
        }
    ],
    "themis": [
        {"question": "2 + 2?", "pos_answer": {"answer": "4", "score": 1}, "neg_answer": {"answer": "5", "score": 0}},
        {"question": "2 + 3?", "answer": "5", "label": 1},
    ],
    "prism_conversations": [
        {
            "user_id": "u1",
            "conversation_id": "c1",
            "open_feedback": "Shorter, please.",
            "conversation_history": [
                {"turn": 0, "role": "user", "content": "Hi"},
                {"turn": 0, "role": "model", "content": "Hello", "score": 80, "if_chosen": True},
                {"turn": 0, "role": "model", "content": "What?", "score": 10, "if_chosen": False},
                {"turn": 1, "role": "user", "content": "Bye"},
                {"turn": 1, "role": "model", "content": "See you", "score": 60, "if_chosen": True},
            ],
        }
    ],
    "prism": [{"user_id": "u1", "user_prompt": "Hi", "model_response": "Hello", "score": 80, "model_name": "m"}],
    "prism_survey": [{"user_id": "u1", "system_string": "Be brief.", "self_description": "I teach."}],
    "dices": [
        {
            "rater_id": 7,
            "context": "USER: hi",
            "response": "Go away",
            "Q2_harmful_content_overall": "No",
            "Q3_bias_overall": "",
            "Q_overall": "Unsure",
            "rater_age": "gen z",
        }
    ],
    "alpaca_eval": [
        {
            "instruction": "Say hi.",
            "output_1": "Hello",
            "output_2": "Hi!",
            "generator_1": "base",
            "generator_2": "new",
            "annotator": "gpt",
            "preference": 1.75,
        }
    ],
    "reversals": [
        {
            "id": 1,
            "prompt": "Tea?",
            "response_a": "Yes.",
            "response_b": "Yes, with milk, and sit down.",
            "criteria_x": "short",
            "criteria_y": "warm",
            "category_x": "form",
            "category_y": "tone",
            "scenario_x": "in a hurry",
            "scenario_y": "a guest",
            "profile_0": "a busy nurse",
        }
    ],
    "alpaca_eval_scores": [{"instruction_index": 0, "model": "new", "preference": 1.25, "length_model": 10}],
    "judge_verdicts": [
        {"id": "a/0", "judge": "j", "winner_original_order": "2", "winner_swapped_order": "1", "label": 1}
    ],
    "battles": [
        {
            "model_a": "m1",
            "model_b": "m2",
            "winner": "model_b",
            "judge": "expert_1",
            "conversation_a": [*ASK, *said("4")],
            "conversation_b": [*ASK, *said("Four")],
            "tstamp": 1682351591.1322,
        },
        {"model_a": "m1", "model_b": "m2", "winner": "tie (bothbad)", "judge": "expert_2"},
    ],
    "graded": [
        {
            "question": {"full_text": "Why?", "id": 3},
            "answer_0": "Because.",
            "answer_1": "Who knows?",
            "score_0": 0.5,
            "score_1": -1.0,
        }
    ],
    "summaries": [
        {
            "info": {"post": "Long.", "id": "t3"},
            "summaries": [{"text": "short", "policy": "a"}, {"text": "shorter", "policy": "b"}],
            "choice": 1,
            "worker": "w1",
        }
    ],
    "arena_flags": [
        {
            "model_a": "m1",
            "model_b": "m2",
            "prompt": '["Hi","Bye"]',
            "response_a": '["Hello","See you"]',
            "response_b": '["What?","No"]',
            "winner_model_a": 1,
            "winner_model_b": 0,
            "winner_tie": 0,
        }
    ],
    "ranked_systems": [{"segment": 1, "judge": "j1", "system_a": "s1", "system_b": "s2", "rank_a": 4, "rank_b": 2}],
    "win_counts": [{"item1": "x", "item2": "y", "win1": 2, "win2": 1, "tied": 1}],
    "match_results": [{"season": "2008-9", "home": "Hul", "away": "Sto", "result": -1}],
    "sides": [{"prompt": "a dog", "human_vote": "bothbad_vote", "judge_votes": {"j": "[[A>B]]"}}],
    "pictures": [
        {"caption": "a dog", "image_0_uid": "x0", "image_1_uid": "x1", "label_0": 0.0, "label_1": 1.0, "user_id": 3}
    ],
    "segment_pairs": [
        {"segment_1": {"start": [2, 6]}, "segment_2": {"start": [1, 3]}, "human": 1.0, "condition": "Trained"}
    ],
    "segment_starts": [{"env": "cube", "query": 0, "segment_length": 100, "start_1": 5, "start_2": 9, "label": -1}],
    "segments": [{"states": [[0.0], [1.0], [2.0]], "actions": [1, 0], "rewards": [1.0, 0.5]}],
    "pandalm": [
        {
            "instruction": "Add.",
            "input": "2 2",
            "response1": "4",
            "response2": "5",
            "annotator1": 1,
            "annotator2": 2,
            "annotator3": 0,
            "cmp_key": "m1_m2",
        }
    ],
    "indexed": [{"prompt": "Tea?", "responses": ["Yes", "No"], "label": 1, "objective": "helpful"}],
    "choices": [{"question": "Tea?", "response_A": "Yes", "response_B": "No", "label": "B>A", "source": "exam"}],
    "hh": [
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: See you",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: No",
        }
    ],
    "pairs": [
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "user": "ann", "mood": "calm"},
        {"prompt": ASK, "chosen": said("4"), "rejected": [CALL], "tools": [{"name": "add"}]},
    ],
    "rank_columns": [{"rank_1": "7", "rank_2": "4", "rank_3": "5"}],
    "rankings": [{"prompt": "Colour?", "responses": ["red", "blue", "green"], "ranks": [2, 1, 2], "user": "ann"}],
    "stepwise": [{"prompt": "2 + 2 * 2?", "completions": ["2 * 2 = 4", "2 + 4 = 7"], "labels": [True, False]}],
    "unpaired": [{"prompt": "Tea?", "completion": "Yes", "label": True}],
    "vote_histogram": [{"image_id": "95", "votes_1": 1, "votes_2": 0, "votes_3": 3}],
    "mean_opinions": [{"name": "a.jpg", "prompt": "a man", "mos_quality": 1.5, "mos_align": 4.5, "std_align": 0.5}],
    "aspects": [{"prompt": "Tea?", "response": "Yes", "helpfulness": 4, "correctness": 3, "verbosity": 0}],
    "rated": [{"prompt": "Tea?", "response": "Yes", "rating": 4, "user": "ann"}],
    "reviews": [{"item": "B00", "category": "cloth", "reviews": ["Fits.", "Too small."], "ratings": [5.0, 2.0]}],
    "edit_decisions": [{"user": "ann1", "before": None, "after": "new", "decision": "Accept", "intent": "clarity"}],
    "revision_chains": [
        {
            "user": "ann1",
            "versions": ["a", "b", "b", "c"],
            "rejected": [{"before": "x", "after": "", "intent": "style"}],
        }
    ],
    "corrections": [{"id": "dev-1", "source": "For not use car .", "corrections": ["Not for use .", "Do not use ."]}],
    "edits": [{"editor": "w1", "instruction": "Tell.", "preedit": "It was was.", "postedit": "It was."}],
    "conversations": [
        {"id": "c1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    ],
    "interactions": [{"userId": 1, "movieId": 31, "rating": 2.5, "timestamp": 1260759144}],
}
