"""What is held out was never part of what was learnt from, whatever the comparisons were made of."""

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate.held_out import by_response, by_time, earlier, known_and_new, split_for
from penchant.records import Comparisons


def choices(n_people, n_each):
    """Votes that stand for themselves, of people in turn."""
    rows = [
        {"prompt": "", "chosen": f"a{i} of p{person}", "rejected": f"b{i} of p{person}", "user": f"p{person}"}
        for i in range(n_each)
        for person in range(n_people)
    ]
    return Comparisons.from_rows(rows)


def pairs_of_ratings(n_people, n_items):
    """All pairs of what each person rated, the same items for everybody."""
    rows = [
        {"prompt": "", "chosen": f"r{i}", "rejected": f"r{j}", "user": f"p{person}"}
        for person in range(n_people)
        for i in range(n_items)
        for j in range(i)
    ]
    return Comparisons.from_rows(rows)


def texts(part, user):
    return {text for side in ("chosen", "rejected") for text in part.of(user).table[side].to_pylist()}


def test_the_earlier_share_is_taken_person_by_person_in_order():
    people = np.array(["a", "b", "a", "a", "b"])
    assert earlier(people, 0.5).tolist() == [True, True, True, False, False]


def test_people_with_too_few_choices_are_learnt_from_but_not_measured():
    votes = choices(2, 6)
    anonymous = Comparisons.from_rows([{"prompt": "", "chosen": "a", "rejected": "b"}] * 5)
    seen, held_out = by_time(Comparisons.concat([votes.of("p1"), anonymous]))
    assert (len(seen), len(held_out)) == (4 + 5, 2)
    with pytest.raises(DataError, match="Nobody has enough choices"):
        by_time(anonymous)


def test_no_held_out_response_was_part_of_a_pair_that_was_learnt_from():
    rows = [
        {"prompt": "", "chosen": f"r{i}", "rejected": f"r{j}", "user": user}
        for user in ("ann", "bob")
        for i in range(9)
        for j in range(i)
    ]
    seen, held_out = by_response(Comparisons.from_rows(rows))
    for user in ("ann", "bob"):
        known, new = (
            {text for side in ("chosen", "rejected") for text in part.of(user).table[side].to_pylist()}
            for part in (seen, held_out)
        )
        assert known
        assert new
        assert not known & new


def test_votes_are_parted_in_time_and_pairs_of_ratings_by_response():
    assert split_for(["comparison", "edit"]) is by_time
    for kinds in (["rating"], ["ranking"], ["comparison", "rating"]):
        seen, held_out = split_for(kinds, seed=1)(pairs_of_ratings(2, 9))
        assert not texts(seen, "p0") & texts(held_out, "p0")


@pytest.mark.parametrize(
    ("kinds", "everything"), [("comparison", choices(20, 30)), ("rating", pairs_of_ratings(20, 12))]
)
def test_people_set_aside_are_in_nothing_that_everybodys_model_learns_from(kinds, everything):
    part = known_and_new(everything, [kinds], seed=3)
    aside = set(part.unseen.users)
    assert len(aside) == 6
    assert not aside & set(part.shared.users)
    assert not aside & set(part.seen.users)
    assert set(part.shown.users) == aside
    for n, own in part.examples.items():
        assert set(own.users) == aside
        assert all(len(own.of(user)) == n for user in aside)
    for user in aside:
        assert not texts(part.shown, user) & texts(part.unseen, user)
    for user in part.seen.users:
        assert not texts(part.shared, user) & texts(part.seen, user)


def test_more_examples_are_the_fewer_ones_and_others_and_votes_come_in_their_order():
    part = known_and_new(choices(20, 30), ["comparison"], seed=0)
    user = part.unseen.users[0]
    one, four = (part.examples[n].of(user).table["chosen"].to_pylist() for n in (1, 4))
    assert (one, four) == ([f"a0 of {user}"], [f"a{i} of {user}" for i in range(4)])
    part = known_and_new(pairs_of_ratings(20, 12), ["rating"], seed=0)
    few, more = (
        part.examples[n].of(part.unseen.users[0]).table.select(["chosen", "rejected"]).to_pylist() for n in (2, 8)
    )
    assert all(row in more for row in few)


def test_pairs_of_ratings_are_not_shown_in_the_order_of_responses():
    part = known_and_new(pairs_of_ratings(20, 12), ["rating"], seed=0)
    first = [texts(part.examples[4], user) for user in part.unseen.users]
    assert len({frozenset(shown) for shown in first}) > 1
    assert min(map(len, first)) > 3, "four pairs about the same few responses say little"


def test_the_same_people_are_measured_at_every_number_of_examples():
    everything = Comparisons.concat([choices(16, 30), choices(20, 9).take([i for i in range(180) if i % 20 >= 16])])
    part = known_and_new(everything, ["comparison"], seed=0)
    assert {frozenset(own.users) for own in part.examples.values()} == {frozenset(part.unseen.users)}
    assert part.n_too_few == 6 - len(part.unseen.users)


def test_examples_that_hardly_anybody_has_are_left_out():
    part = known_and_new(choices(20, 9), ["comparison"], seed=0)
    assert list(part.examples) == [1, 2, 4]


def test_few_people_are_all_learnt_from_and_it_is_said():
    part = known_and_new(choices(3, 9), ["comparison"])
    assert not part.examples
    assert "3 people are too few" in part.why_nobody
    assert len(part.seen.users) == 3


def test_people_with_too_few_choices_to_be_shown_any_are_said():
    mostly = Comparisons.concat([choices(12, 30).of(f"p{i}") for i in range(7)] + [choices(20, 1)])
    part = known_and_new(mostly, ["comparison"], seed=0)
    assert part.n_too_few or part.why_nobody


def test_who_is_set_aside_depends_on_the_seed_alone():
    one, again, other = (known_and_new(choices(20, 9), ["comparison"], seed=seed).unseen.users for seed in (1, 1, 2))
    assert one == again != other
