"""A steered answer, and the wishes it may and may not claim to follow."""

from dataclasses import replace

import numpy as np
import pytest

from penchant.apps import chat as conversation
from penchant.apps.portraits import wishes_of
from penchant.encoders import Attributes, Items, Joined
from penchant.errors import SettingsError, UnknownNameError
from penchant.preference import BradleyTerry
from penchant.records import Comparisons
from penchant.style import Style


class Two:
    """Answers once briefly and once at length; remembers what it was told."""

    name = "two"
    told = ""

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        Two.told = messages[0]["content"]
        return ["Tea.", "A long and winding answer about tea and all that belongs to it, at length."][:n]


class Lengths:
    """An encoder that is not style: how long a text is."""

    name = "lengths"

    def encode(self, payloads):
        return Style().encode(payloads)[:, :1]


def votes(pairs):
    """Ann takes the first of each pair, Bob the second."""
    rows = [{"prompt": "q", "chosen": one, "rejected": other, "user": "ann"} for one, other in pairs]
    rows += [{"prompt": "q", "chosen": other, "rejected": one, "user": "bob"} for one, other in pairs]
    return Comparisons.from_rows(rows)


SHORT_AND_LONG = [("Tea is good.", "Tea is good. " * k) for k in range(2, 42)]


def learnt(encoder, pairs=SHORT_AND_LONG):
    model = BradleyTerry(encoder=encoder, l2=1.0, prior_precision=0.5).fit(votes(pairs))
    for user in ("ann", "bob"):
        found = model.adapt(user, votes(pairs).of(user))
        # Sure of every weight, so that what is tested is what is said of them.
        model.users_[user] = replace(found, standard_errors=np.full_like(found.weights, 1e-3))
    return model


@pytest.fixture
def people(monkeypatch):
    def given(model):
        monkeypatch.setattr(conversation, "loaded", lambda folder: model)
        monkeypatch.setattr(conversation, "chat_model", lambda spec: Two())

    return given


def test_each_person_gets_the_answer_that_their_votes_ask_for_and_hears_why(people):
    people(learnt(Style()))
    brief, long = (conversation.chat("Tea?", user=user, n=2) for user in ("ann", "bob"))
    assert brief.text == "Tea."
    assert long.text.startswith("A long")
    assert any("shorter" in wish for wish in brief.data["wishes"])
    assert any("longer" in wish for wish in long.data["wishes"])


def test_weights_of_another_encoder_are_never_read_as_style(people):
    assert wishes_of(learnt(Joined(Style(), Lengths())), "ann")
    assert wishes_of(learnt(Lengths()), "ann") == []
    people(learnt(Lengths()))
    outcome = conversation.chat("Tea?", user="ann", n=2)
    assert (outcome.text, outcome.data["wishes"]) == ("Tea.", [])


def test_a_model_of_names_or_numbers_cannot_judge_a_conversation(people):
    people(learnt(Items(["tea", "coffee"]), [("tea", "coffee")] * 3))
    with pytest.raises(SettingsError, match="learnt from names"):
        conversation.chat("Tea?", user="ann")
    people(learnt(Attributes(), [('{"x": 1}', '{"x": 2}')] * 3))
    with pytest.raises(SettingsError, match="learnt from numbers"):
        conversation.chat("Tea?", user="ann")


def test_somebody_unknown_is_answered_with_the_nearest_name(people):
    people(learnt(Style()))
    with pytest.raises(UnknownNameError, match="ann"):
        conversation.chat("Tea?", user="anna")
