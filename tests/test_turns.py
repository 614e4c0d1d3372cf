"""A turn is read as a person would read it, and nothing of a message is lost."""

import json

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.preference import BradleyTerry
from penchant.preference.votes import encoded_prompts
from penchant.records import Comparisons, Ratings, canonical_json
from penchant.style import Style
from penchant.turns import Turn, readable, turns, turns_between


def test_one_message_is_its_content_and_several_say_who_spoke():
    assert readable("plain", "text") == readable("plain", None) == "plain"
    assert readable('[{"role":"user","content":"Hi"}]', "messages") == "Hi"
    two = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert readable(json.dumps(two), "messages") == "user: Hi\n\nassistant: Hello"


def test_parts_and_calls_of_tools_are_kept():
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}
    assert readable(json.dumps([call]), "messages") == '{"tool_calls":[{"name":"add"}]}'
    parts = {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image", "path": "a.png"}]}
    assert readable(json.dumps([parts]), "messages") == 'See\n{"path":"a.png","type":"image"}'


@pytest.mark.parametrize("broken", ["", "{", "[1]", '[{"content":"no role"}]', "3", "[" * 100_000])
def test_messages_that_cannot_be_read_are_a_sentence(broken):
    with pytest.raises(DataError, match="messages"):
        readable(broken, "messages")


def test_records_become_turns_with_their_own_context_and_form():
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": "c", "context": "k"},
        {"prompt": "[]", "chosen": "[1]", "rejected": "[2]", "form": "messages"},
    ]
    assert turns(Comparisons.from_rows(rows), "rejected") == [Turn("a", "c", "k"), Turn("[]", "[2]", None, "messages")]
    assert turns(Ratings.from_rows([{"prompt": "a", "response": "b", "score": 1.0}])) == [Turn("a", "b")]
    with pytest.raises(DataError, match="1 prompts for 2 responses"):
        turns_between(["a"], ["b", "c"])


def test_a_model_of_people_reads_messages_like_the_same_text():
    texts = [("Short.", "A long and winding answer about it all."), ("Yes!", "One could say maybe, perhaps.")] * 3

    def said(text):
        return canonical_json([{"role": "assistant", "content": text}])

    plain = [{"prompt": "q", "chosen": a, "rejected": b, "user": "u"} for a, b in texts]
    asked = canonical_json([{"role": "user", "content": "q"}])
    chat = [
        {"prompt": asked, "chosen": said(a), "rejected": said(b), "user": "u", "form": "messages"} for a, b in texts
    ]
    model = BradleyTerry(encoder=Style(), l2=1.0, prior_precision=1.0)
    one, other = (model.fit(Comparisons.from_rows(rows)).weights_ for rows in (plain, chat))
    assert one.tolist() == other.tolist()
    assert model.reward([asked], [said("Yes!")], form="messages") == model.reward(["q"], ["Yes!"])


def test_questions_by_themselves_are_read_in_either_form():
    plain = [Turn("Why?", "", "k"), Turn("How so, then?", "")]
    chat = [
        turn._replace(prompt=canonical_json([{"role": "user", "content": turn.prompt}]), form="messages")
        for turn in plain
    ]
    assert [turn.text() for turn in chat] == [turn.text() for turn in plain]
    records = [
        Comparisons.from_rows(
            [{"prompt": turn.prompt, "chosen": answers[0], "rejected": answers[1], "form": turn.form} for turn in asked]
        )
        for asked, answers in ((plain, ("a", "b")), (chat, ("[]", "[1]")))
    ]

    class Length(Style):
        reads_prompts = True
        payload = staticmethod(Turn.text)

    one, other = (encoded_prompts(Length(), some) for some in records)
    np.testing.assert_array_equal(one[0], other[0])
    assert one[0].shape[1]
    assert one[1].tolist() == other[1].tolist() == [0, 1]
