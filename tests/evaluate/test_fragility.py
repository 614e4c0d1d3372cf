"""Fragility: all sets of votes tried on small boards, influences against refits, people, and orders nothing turns."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

from penchant.evaluate import fragility as module
from penchant.evaluate.fragility import fragility
from penchant.evaluate.leaderboard import POINTS, leaderboard
from penchant.preference.counts import Counts, optimum
from penchant.records import Battles


def votes(n, *, seed, n_systems=3, n_people=0, apart=0.5):
    rng = np.random.default_rng(seed)
    first = rng.integers(n_systems, size=n)
    second = (first + rng.integers(1, n_systems, size=n)) % n_systems
    wins = rng.random(n) < expit(apart * (second - first))
    outcome = np.where(rng.random(n) < 0.15, "tie", np.where(wins, "a", "b"))
    made = [
        {"system_a": f"s{a}", "system_b": f"s{b}", "outcome": str(o)}
        for a, b, o in zip(first, second, outcome, strict=True)
    ]
    return [row | {"user": f"u{rng.integers(n_people)}"} for row in made] if n_people else made


def gap_without(rows, above, below, left_out, n_systems=3):
    """Of an exact fit to the other rows, points; nearly no prior, for systems that then won or lost everything."""
    kept = [row for number, row in enumerate(rows) if number not in left_out]
    first, second = (np.array([int(row[side][1:]) for row in kept]) for side in ("system_a", "system_b"))
    won = np.array([{"a": 1.0, "tie": 0.5, "b": 0.0}[row["outcome"]] for row in kept])
    table = Counts.of(np.r_[first, second], np.r_[second, first], np.r_[won, 1 - won], n_systems)
    found = optimum(table.score, l2=1e-6)[0]
    return POINTS * (found[int(above[1:])] - found[int(below[1:])])


def fewest_of_all_sets(rows, above, below, most):
    """The smallest set of votes whose removal turns the two around; None if no set of `most` does."""
    for size in range(1, most + 1):
        for left_out in itertools.combinations(range(len(rows)), size):
            if gap_without(rows, above, below, set(left_out)) < -1e-4:
                return size
    return None


def test_no_set_of_votes_is_smaller_than_the_one_found_where_all_sets_can_be_tried():
    alike = n_tried = 0
    for seed in range(12):
        rows = votes(14, seed=seed)
        board = leaderboard(Battles.from_rows(rows))
        if board.prior or len(board.systems) < 3:
            continue
        for swap in fragility(board).swaps:
            if swap.n_votes is not None and swap.n_votes <= 3:
                best = fewest_of_all_sets(rows, swap.above, swap.below, swap.n_votes)
                assert best is not None  # what was found does turn them
                n_tried += 1
                alike += best == swap.n_votes
    assert n_tried >= 10
    assert alike >= 0.9 * n_tried


def test_the_number_found_turns_a_pair_and_one_less_of_the_same_path_does_not():
    board = leaderboard(Battles.from_rows(votes(3000, seed=1, n_systems=6)))
    for swap in fragility(board).swaps:
        pair = np.array([[board.systems.index(swap.above), board.systems.index(swap.below)]])
        removal = module._Votes(board)
        [path] = module._paths(removal, pair, module._gaps(board, pair))
        without = [
            module._gaps_without(removal, board, pair, [path.of(n)])[0] for n in (swap.n_votes, swap.n_votes - 1)
        ]
        assert without[0] < 0 <= without[1]


def test_the_influence_of_a_vote_is_what_an_exact_refit_without_it_moves():
    rows = votes(80, seed=2)
    board = leaderboard(Battles.from_rows(rows))
    pair = board.order[None, :2]
    removal = module._Votes(board)
    names = [board.systems[place] for place in pair[0]]
    full = gap_without(rows, *names, set())
    for kind, closes in enumerate(removal.influence(pair)[0]):
        a, b = board.systems[removal.first[kind]], board.systems[removal.second[kind]]
        result = removal.result[kind]
        seen = {(a, b): {1.0: "a", 0.0: "b", 0.5: "tie"}[result], (b, a): {1.0: "b", 0.0: "a", 0.5: "tie"}[result]}
        number = next(n for n, r in enumerate(rows) if seen.get((r["system_a"], r["system_b"])) == r["outcome"])
        assert full - gap_without(rows, *names, {number}) == pytest.approx(POINTS * closes, rel=0.02)


def test_people_are_left_out_with_all_their_votes_and_the_fewest_is_that_of_all_sets():
    checked = 0
    for seed in range(6):
        rows = votes(160, seed=seed, n_people=22, apart=0.15)
        board = leaderboard(Battles.from_rows(rows))
        assert board.by_person
        for swap in fragility(board).swaps:
            if swap.n_people is not None and swap.n_people <= 2:
                assert fewest_of_all_people(rows, swap) == swap.n_people
                checked += 1
    assert checked >= 3


def fewest_of_all_people(rows, swap):
    people = sorted({row["user"] for row in rows})
    for size in (1, 2):
        for gone in itertools.combinations(people, size):
            left_out = {number for number, row in enumerate(rows) if row["user"] in gone}
            if gap_without(rows, swap.above, swap.below, left_out) < -1e-4:
                return size
    return None


def test_the_first_place_may_hang_on_a_rare_third_system_and_not_on_the_runner_up():
    often = [{"system_a": "s0", "system_b": "s1", "outcome": o} for o in ["a"] * 300 + ["b"] * 200]
    rare = [{"system_a": "s2", "system_b": "s1", "outcome": o} for o in ["a"] * 5 + ["b"] * 5]
    found = fragility(leaderboard(Battles.from_rows([*often, *rare])))
    assert found.first.above == "s0"
    assert found.first.below == "s2"
    assert found.first.n_votes < min(5, found.swaps[0].n_votes + 1)
    turned = gap_without([*often, *rare], "s0", "s2", set(range(505, 505 + found.first.n_votes)))
    assert turned < 0  # its lost votes lie at the end


def test_without_names_there_is_no_number_of_people_and_two_systems_have_one_pair():
    found = fragility(leaderboard(Battles.from_rows(votes(60, seed=0, n_systems=2))))
    assert [swap.n_people for swap in found.swaps] == [None]
    assert (found.first.above, found.first.below) == (found.swaps[0].above, found.swaps[0].below)


def test_where_nobody_counts_for_more_than_some_votes_leaving_out_votes_or_people_is_verified_with_their_weights():
    rows = votes(900, seed=4, n_people=30, apart=0.2)
    rows += [row | {"user": "often"} for row in votes(200, seed=5, apart=-0.4)]
    board = leaderboard(Battles.from_rows(rows), per_person=20)
    weights = board.votes.weight

    def gap(swap, left_out):
        keep = np.flatnonzero(~left_out)
        i, j, won = board.votes.first[keep], board.votes.second[keep], board.votes.result[keep]
        table = Counts.of(np.r_[i, j], np.r_[j, i], np.r_[weights[keep] * won, weights[keep] * (1 - won)], 3)
        found = optimum(table.score, l2=1e-6)[0]
        return found[board.systems.index(swap.above)] - found[board.systems.index(swap.below)]

    for swap in fragility(board).swaps:
        pair = np.array([[board.systems.index(swap.above), board.systems.index(swap.below)]])
        for removal, n in ((module._Votes(board), swap.n_votes), (module._People(board), swap.n_people)):
            [path] = module._paths(removal, pair, module._gaps(board, pair))
            kinds, units = path.of(n)
            left_out = np.zeros(board.n_votes, dtype=bool)
            for kind, some in zip(kinds, units, strict=True):
                if isinstance(removal, module._People):
                    mine = board.votes.person == kind
                else:
                    at, won = board.votes.oriented
                    mine = (at == removal.pair[kind]) & (won == removal.result[kind])
                    mine &= weights == removal.weight[kind]
                left_out[np.flatnonzero(mine)[: int(some) if isinstance(removal, module._Votes) else None]] = True
            [told] = module._gaps_without(removal, board, pair, [path.of(n)])
            assert told < 0
            assert told == pytest.approx(gap(swap, left_out), abs=1e-4)
