from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import SettingsError
from penchant.preference.few_shot import FewShot
from penchant.records import Comparisons, canonical_json


class Reader:
    """A policy that likes what the shots like: one nat for each unit that the shots are ahead along x."""

    name = "reader"

    def __init__(self, *, sign=1.0):
        self.sign, self.asked = sign, []

    def log_probabilities(self, prompts, responses):
        self.asked += prompts
        return [
            [SimpleNamespace(sum=self._value(prompt, text)) for text in texts]
            for prompt, texts in self._each(prompts, responses)
        ]

    def log_ratio(self, prompts, responses):
        self.asked += prompts
        return [[self._value(prompt, text) / 2 for text in texts] for prompt, texts in self._each(prompts, responses)]

    def _each(self, prompts, responses):
        return zip(prompts, responses, strict=True)

    def _value(self, prompt, text):
        liked = prompt.count('"liked":1') - prompt.count('"liked":-1')  # 0 without shots
        x = float(text.split('"x":')[1].rstrip("}"))
        return self.sign * np.sign(liked) * x - 0.1 * len(text)


def votes(n_people=60, n=8, *, seed=0, alike=False):
    """Half of the people like x, the other half its opposite; a payload of theirs says which, for the reader."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(n_people):
        kind = 1 if alike or person % 2 else -1
        for i in range(n):
            a, b = sorted(rng.standard_normal(2).round(3), key=lambda x: -kind * x)
            if a == b:
                continue
            chosen, rejected = (canonical_json({"liked": kind, "x": float(x)}) for x in (a, b))
            rows.append({"prompt": f"q{i}", "chosen": chosen, "rejected": rejected, "user": f"p{person:02d}"})
    return Comparisons.from_rows(rows)


@pytest.fixture
def model():
    return FewShot(encoder=Attributes(["x", "liked"]), policy=Reader(), n_windows=100)


def test_a_reader_that_knows_people_is_trusted_and_somebody_new_gains_from_four_shots(model):
    model.fit(votes())
    _, policy = model.share_
    assert policy > 1.0
    new = votes(6, 24, seed=9)
    late = new.take([row for row in range(len(new)) if row % 24 >= 4])
    before = (model.probability(late) > 0.5).mean()
    for user in new.users:
        assert model.adapt(user, new.of(user).take(range(4))).n_pairs == 4
    assert (model.probability(late) > 0.5).mean() > 0.95 > before + 0.2


def test_a_reader_that_knows_nothing_or_people_who_are_alike_leave_everybodys_reward(model):
    class Coin(Reader):
        def _value(self, prompt, text):
            return float(np.random.default_rng(crc32((prompt + text).encode())).standard_normal())

    model.policy = Coin()
    assert model.fit(votes()).share_ == (1.0, 0.0)
    assert FewShot(encoder=Attributes(["x", "liked"]), policy=Coin()).fit(votes(alike=True)).share_ == (1.0, 0.0)


def test_a_reader_that_is_wrong_about_everybody_is_not_taken_for_one_that_knows_them(model):
    model.policy = Reader(sign=-1.0)
    assert model.fit(votes()).share_ == (1.0, 0.0)


def test_of_few_people_nothing_is_measured_and_the_policy_is_never_asked(model):
    model.fit(votes(20))
    model.adapt("p00", votes(1))
    model.probability(votes(20))
    assert model.share_ == (1.0, 0.0)
    assert model.policy.asked == []


def test_with_a_beta_it_is_the_papers_reward_against_the_reference_and_nothing_else():
    policy = Reader()
    model = FewShot(encoder=Attributes(["x", "liked"]), policy=policy, beta=0.5, against="reference").fit(votes(4))
    assert policy.asked == []
    assert model.probability(votes(4)).tolist() == [0.5] * 32  # nobody is known yet
    model.adapt("p01", votes(2).of("p01").take(range(4)))
    some = [canonical_json({"liked": 0, "x": x}) for x in (1.0, -1.0)]
    first, second = model.reward(["new"] * 2, some, user="p01")
    assert first - second == pytest.approx(0.5 * (2.0 - 0.1 * (len(some[0]) - len(some[1]))) / 2)
    pair = Comparisons.from_rows([{"prompt": "new", "chosen": some[0], "rejected": some[1], "user": "p01"}])
    assert model.probability(pair)[0] == pytest.approx(1 / (1 + np.exp(second - first)))
    turned = Comparisons.from_rows([{"prompt": "new", "chosen": some[1], "rejected": some[0], "user": "p01"}])
    assert model.probability(turned)[0] == pytest.approx(1 - model.probability(pair)[0])
    soft = Comparisons.from_rows(
        [{**pair.table.to_pylist()[0], "strength": 0.1}]
    )  # P(chosen) does not follow the label
    assert model.probability(soft)[0] == pytest.approx(model.probability(pair)[0])


def test_in_context_it_is_what_the_shots_change_and_not_how_likely_an_answer_is_anyway():
    model = FewShot(encoder=Attributes(["x", "liked"]), policy=Reader(), beta=0.5).fit(votes(4))
    model.adapt("p01", votes(2).of("p01").take(range(4)))
    some = [canonical_json({"liked": 0, "x": x}) for x in (1.0, -1.25, 0.125)]  # of several lengths
    assert model.reward(["new"] * 3, some, user="p01") == pytest.approx([0.5, -0.625, 0.0625])
    assert model.reward(["new"] * 3, some) == pytest.approx([0.0, 0.0, 0.0])


def test_the_question_that_is_asked_is_not_among_its_shots(model):
    model.beta = 1.0
    model.fit(votes(2))
    own = votes(2).of("p01").take(range(4))
    model.adapt("p01", own)
    model.probability(own.take([2]))
    shown = [prompt for prompt in model.policy.asked if "# Example" in prompt]
    assert [prompt.count("# Example") for prompt in shown] == [3]


def test_the_last_shots_are_kept_whole_and_can_be_read(model):
    model.fit(votes(2))
    told = model.adapt("p01", votes(2).of("p01"))
    assert [shot.question for shot in told.examples] == ["q4", "q5", "q6", "q7"]
    assert told.n_pairs == 8
    assert model.adapt("nobody", votes(2).take([])).examples == []
    narrow = FewShot(encoder=Attributes(["x", "liked"]), kept_bytes=160).fit(votes(2))
    assert [shot.question for shot in narrow.adapt("p01", votes(2).of("p01")).examples] == ["q6", "q7"]


def test_the_words_of_whoever_is_forgotten_are_in_no_file(model, tmp_path):
    model.fit(votes(3))
    secret = votes(1).take([0]).table.to_pylist()[0] | {"prompt": "unmistakable words", "user": "ann"}
    model.adapt("ann", Comparisons.from_rows([secret]))
    model.save(tmp_path)
    assert b"unmistakable" in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    del model.users_["ann"]
    model.save(tmp_path)
    assert b"unmistakable" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_saved_it_knows_its_shots_and_the_name_of_its_policy(model, tmp_path):
    model.beta = 1.0
    model.fit(votes(3))
    model.adapt("p01", votes(2).of("p01"))
    model.save(tmp_path)
    again = FewShot.load(tmp_path, encoder=Attributes(["x", "liked"]))
    assert again.policy == "reader"
    again.policy = Reader()
    np.testing.assert_array_equal(again.probability(votes(3)), model.probability(votes(3)))


def test_bad_settings_are_refused():
    for wrong in ({"against": "nobody"}, {"beta": 0.0}, {"n_shots": 0}, {"kept_bytes": 1}):
        with pytest.raises(SettingsError):
            FewShot(encoder=Attributes(), **wrong)
