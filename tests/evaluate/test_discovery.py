"""The protocol: who sees what, how a talk ends, what a failure becomes, and that a run goes on where it was."""

import json

import pytest

from penchant.chat import ChatError
from penchant.errors import SettingsError, UnknownNameError
from penchant.evaluate.discovery import MODES, Discovery, action, discover, failures, weighted_score
from penchant.evaluate.discovery_tasks import Preference, Problem, Task
from penchant.evaluate.graders import ByChat, ByRules, CorrectByChat, CorrectByRules
from penchant.evaluate.passive_user import ByChat as PlayedUser
from penchant.evaluate.passive_user import ByRules as RuledUser
from penchant.evaluate.passive_user import Reply
from penchant.feedback.personas import Persona

SUM = Problem("1", "2 + 2?", "4")


def task(problem=SUM, person="ann", **weights):
    values = {"length": ("short", "Keep it very short, one brief sentence."), "bullets": ("list", "Use bullet points.")}
    weights = weights or {"length": 0.75, "bullets": 0.25}
    levels = tuple(f"SECRET {n}" for n in range(5))
    wanted = {name: Preference(values[name][0], weight, values[name][1], levels) for name, weight in weights.items()}
    return Task(problem, Persona(person, "A nurse."), wanted)


class Says:
    """A model that says what a function of the messages gives."""

    def __init__(self, function, name="model"):
        self.function, self.name, self.calls, self.settings = function, name, [], []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        self.calls.append([dict(message) for message in messages])
        self.settings.append((temperature, max_tokens, seed))
        said = self.function(messages)
        if isinstance(said, Exception):
            raise said
        return [said] * n


def always_asking(messages):
    return "It is 4." if "ACTION: final_answer" in messages[-1]["content"] else "ACTION: ask\nCONTENT: How long?"


def talk(function, **settings):
    model = Says(function)
    found = discover(task(), lambda messages, due: model.complete(messages)[0], RuledUser(), **settings)
    return found, model


def run(model, *, grader=None, correctness=None, **settings):
    return Discovery(
        [model], user=settings.pop("user", RuledUser()), grader=grader or ByRules(),
        correctness=correctness or CorrectByRules(), **settings,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "kind", "text", "formed"),
    [
        ("ACTION: ask\nCONTENT: Long?", "ask", "Long?", True),
        ("**Action:** final answer\nContent: It is 4.\nSure.", "final_answer", "It is 4.\nSure.", True),
        ("ACTION: final_answer\nIt is 4.", "final_answer", "It is 4.", True),
        ("Do you like it long?", "ask", "Do you like it long?", False),
        ("It is 4.", "final_answer", "It is 4.", False),
        ("Is it? It is 4.", "final_answer", "Is it? It is 4.", False),
        ("ACTION: dance\nCONTENT: x", "final_answer", "ACTION: dance\nCONTENT: x", False),
    ],
)
def test_a_turn_is_read_in_its_two_lines_or_as_a_person_would(said, kind, text, formed):
    found = action(said)
    assert (found.kind, found.text, found.is_formed) == (kind, text, formed)


def test_at_the_limit_the_final_instruction_is_merged_into_the_last_words_of_the_person():
    found, model = talk(always_asking, max_turns=2)
    assert found.n_questions == 2
    assert found.response == "It is 4."
    for messages in [*model.calls, found.messages]:
        roles = [message["role"] for message in messages]
        assert roles == ["system", *["user", "assistant"] * len(roles)][: len(roles)]  # never two of a side in a row
    last = model.calls[-1][-1]["content"]
    assert last.startswith("Keep it very short")
    assert "Now answer" in last


def test_a_model_may_answer_at_once_and_one_told_to_ask_may_not():
    found, _ = talk(lambda messages: "ACTION: final_answer\nCONTENT: It is 4.")
    assert (found.n_questions, found.response, found.malformed) == (0, "It is 4.", 0)
    found, _ = talk(lambda messages: "It is 4.", n_questions=3)
    assert (found.n_questions, found.response, found.malformed) == (3, "It is 4.", 3)


def test_the_person_tells_only_what_is_asked_one_thing_at_a_time_and_never_twice_first():
    user, one = RuledUser(), task()
    both = user.reply(one, "Short or bullet points?", (), seed=0)
    assert both.expressed == ("length",)
    assert user.reply(one, "Short or bullet points?", ["length"], seed=0).expressed == ("bullets",)
    assert user.reply(one, "Any emoji?", (), seed=0).text == "I have no preference about that."
    assert user.reply(one, "How are you?", (), seed=0).expressed == ()
    assert not user.reply(one, "Bullets?", ["length"], seed=0).stops
    assert RuledUser(may_stop=True).reply(one, "Bullets?", ["length"], seed=0).stops


def test_nobody_but_the_grader_sees_the_rubric():
    player = Says(
        lambda messages: json.dumps({"reply": "Short.", "expressed": ["length", "nonsense"], "stop": False}), "p"
    )
    grader = Says(lambda messages: '{"score": 4}', "j")
    model = Says(always_asking)
    runner = run(model, user=PlayedUser(player), grader=ByChat(grader), max_turns=1)
    rows = runner.run([task()], progress=False, say=lambda line: None)
    seen = json.dumps([model.calls, player.calls])
    assert "SECRET" not in seen
    assert "Use bullet points." in json.dumps(player.calls)  # it knows its wishes
    assert "SECRET" in json.dumps(grader.calls)
    assert not any(mode in json.dumps(grader.calls) for mode in [*MODES.values(), "oracle", "baseline"])
    by_mode = {row["mode"]: row for row in rows}
    assert by_mode["infer_persona"]["preferences_expressed"] == ["length"]  # names, as they are in the preferences
    assert "Use bullet points." in json.dumps(by_mode["persona_known"]["conversation"])
    assert [message["role"] for message in by_mode["no_prompt"]["conversation"]] == ["user", "assistant"]


def test_alignment_is_the_weighted_mean_and_missing_where_a_grade_is_missing():
    one = task(length=0.74, bullets=0.25)  # within the tolerance: divided by the sum
    assert weighted_score({"length": 5, "bullets": 1}, one) == pytest.approx((0.74 * 5 + 0.25) / 0.99)
    assert weighted_score({"length": 5, "bullets": None}, one) is None


@pytest.mark.parametrize(
    "said", ['{"score": 6}', '{"score": 0}', '{"score": 3.5}', '{"score": "4"}', '{"score": true}', "four"]
)
def test_a_judgement_that_is_no_whole_number_from_1_to_5_is_a_counted_failure_and_never_a_score(said):
    runner = run(Says(lambda messages: "It is 4."), grader=ByChat(Says(lambda messages: said, "j")))
    rows = runner.run([task()], modes=["baseline"], progress=False, say=lambda line: None)
    assert rows[0]["criteria_scores"] == {"length": None, "bullets": None}
    assert rows[0]["weighted_score"] is None
    assert rows[0]["correct"] is True
    assert failures(rows) == {"the grader gave no whole number from 1 to 5": 2}


def test_an_empty_answer_and_a_model_that_fails_are_rows_with_a_reason():
    for said, reason in (("  ", "the answer is empty"), (ChatError("down"), "no response")):
        rows = run(Says(lambda messages, said=said: said)).run(
            [task()], modes=["oracle"], progress=False, say=lambda line: None
        )
        assert failures(rows) == {reason: 1}
        assert rows[0]["weighted_score"] is None


def test_correctness_is_judged_once_for_a_response_and_of_the_response_that_is_graded():
    grader = Says(lambda messages: '{"correct": true}', "c")
    runner = run(Says(lambda messages: "It is 4."), correctness=CorrectByChat(grader))
    rows = runner.run([task(), task(person="bob")], modes=["baseline", "oracle"], progress=False, say=lambda line: None)
    assert [row["correct"] for row in rows] == [True] * 4
    assert len(grader.calls) == 1
    assert "It is 4." in grader.calls[0][-1]["content"]


def test_rules_of_correctness_read_the_last_number_the_letter_or_the_words():
    right = CorrectByRules().is_correct
    assert right(Problem("1", "?", "1,200"), "First 3, so 1200")
    assert not right(Problem("1", "?", "12"), "It is 12, not 13")
    assert right(Problem("1", "?", "Paris"), "It is paris.")
    assert not right(Problem("1", "?", "ice"), "It is nice.")
    choice = Problem("1", "?", "B", {"A": "red", "B": "blue"})
    assert right(choice, "I say B")
    assert right(choice, "It is blue")
    assert not right(choice, "It is red or blue")


def test_a_killed_run_goes_on_and_tries_failures_again(tmp_path):
    tasks = [task(Problem(str(n), f"{n} + 1?", str(n + 1))) for n in range(4)]
    file = tmp_path / "rows.jsonl"
    broken = Says(lambda messages: ChatError("down") if messages[0]["content"].startswith("3") else "It is 4.")
    first = run(broken).run(tasks, file, modes=["baseline"], progress=False, say=lambda line: None)
    assert failures(first) == {"no response": 1}
    with file.open("a", encoding="utf-8") as out:
        out.write('{"key": "torn')
    again = Says(lambda messages: "It is 4.")
    told = []
    second = run(again).run(tasks, file, modes=["baseline"], progress=False, say=told.append)
    assert len(again.calls) == 1
    assert told[0].startswith("1 answers to get: at most 1 calls to models")
    assert failures(second) == {}
    third = run(again).run(tasks, file, modes=["baseline"], progress=False, say=told.append)
    assert third == second
    assert len(again.calls) == 1


def test_threads_give_the_same_rows_in_the_same_order():
    tasks = [task(Problem(str(n), f"{n} + 1?", str(n + 1))) for n in range(6)]
    one, many = (
        run(Says(always_asking), n_threads=n).run(tasks, progress=False, say=lambda line: None) for n in (1, 4)
    )
    assert one == many


def test_the_cost_counts_every_call_that_is_then_made():
    player = Says(lambda messages: '{"reply": "Short.", "expressed": [], "stop": false}', "p")
    grader, right = Says(lambda messages: '{"score": 4}', "j"), Says(lambda messages: '{"correct": true}', "c")
    model = Says(always_asking)
    runner = run(model, user=PlayedUser(player), grader=ByChat(grader), correctness=CorrectByChat(right), max_turns=3)
    cost = runner.estimate([(model, task(), mode) for mode in MODES.values()])
    runner.run([task()], progress=False, say=lambda line: None)
    assert cost.calls[:2] == (len(model.calls), len(player.calls)) == (6, 3)
    assert cost.calls[2] == len(grader.calls) + 3
    assert len(right.calls) == 2  # of three responses two were the same
    free = run(model, user=PlayedUser(player), max_turns=3).estimate([(model, task(), mode) for mode in MODES.values()])
    assert cost.completion_tokens - free.completion_tokens == 20 * cost.calls[2]
    assert cost.prompt_tokens > free.prompt_tokens


def test_settings_and_modes_out_of_range_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'oracle'"):
        run(Says(always_asking)).run([task()], modes=["oracel"], progress=False)
    with pytest.raises(SettingsError, match="max_turns"):
        run(Says(always_asking), max_turns=0)
    for wrong in ({"n_questions": 0}, {"question_tokens": 0}, {"temperature": -0.1}):
        with pytest.raises(SettingsError, match="at least"):
            run(Says(always_asking), **wrong)
    with pytest.raises(SettingsError, match="another name"):
        Discovery([Says(always_asking)] * 2, user=RuledUser(), grader=ByRules(), correctness=CorrectByRules())


class Repeats:
    """A person who tells one wish over and over, and stops when asked so often."""

    name, is_free = "repeats", True

    def __init__(self, stops_at):
        self.stops_at, self.seeds = stops_at, []

    def reply(self, one, question, expressed, *, seed):
        self.seeds.append(seed)
        return Reply("Short.", ("length",), len(self.seeds) == self.stops_at)


def test_a_person_who_stops_ends_the_questions_and_a_wish_told_twice_is_one():
    user, model = Repeats(2), Says(always_asking)
    found = discover(task(), lambda messages, due: model.complete(messages)[0], user, max_turns=5, seed=7)
    assert (found.n_questions, found.expressed, user.seeds) == (2, ("length",), [8, 9])
    assert found.response == "It is 4."


def test_answers_and_questions_have_their_own_lengths_and_another_seed_is_another_run(tmp_path):
    model, file = Says(always_asking), tmp_path / "rows.jsonl"
    settings = {"max_turns": 1, "temperature": 0.3, "max_tokens": 90, "question_tokens": 50}
    quiet = {"modes": ["discovery"], "progress": False, "say": lambda line: None}
    run(model, seed=1, **settings).run([task()], file, **quiet)
    assert model.settings == [(0.3, 50, 1), (0.3, 90, 1)]
    run(model, seed=1, **settings).run([task()], file, **quiet)
    assert len(model.calls) == 2
    run(model, seed=2, **settings).run([task()], file, **quiet)
    assert len(model.calls) == 4
