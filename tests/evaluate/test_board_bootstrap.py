"""Bootstrap of boards: its spread is that of the sandwich, resamples are exact fits, rare systems stay."""

import numpy as np
import pytest
from scipy.special import expit

from penchant.errors import SettingsError
from penchant.evaluate.board_bootstrap import _of_people, _of_votes, resampled, resampled_board
from penchant.evaluate.leaderboard import POINTS, leaderboard
from penchant.preference.counts import optimum
from penchant.records import Battles


def battles(n=800, n_systems=5, *, seed=0, n_people=0, whims=0.0, spread=1.0):
    rng = np.random.default_rng(seed)
    truth = np.linspace(spread, -spread, n_systems)
    liking = truth + whims * rng.standard_normal((max(n_people, 1), n_systems))
    first = rng.integers(n_systems, size=n)
    second = (first + rng.integers(1, n_systems, size=n)) % n_systems
    person = rng.integers(max(n_people, 1), size=n)
    wins = rng.random(n) < expit(liking[person, first] - liking[person, second])
    outcome = np.where(rng.random(n) < 0.15, "tie", np.where(wins, "a", "b"))
    made = [
        {"system_a": f"s{a}", "system_b": f"s{b}", "outcome": str(o)}
        for a, b, o in zip(first, second, outcome, strict=True)
    ]
    if n_people:
        made = [row | {"user": f"u{who}"} for row, who in zip(made, person, strict=True)]
    return Battles.from_rows(made)


@pytest.mark.parametrize("n_people", [0, 60])
def test_every_resample_is_the_optimum_of_its_own_table_found_from_nothing(n_people):
    board = leaderboard(battles(n_people=n_people))
    assert board.by_person == bool(n_people)
    draw = _of_people if n_people else _of_votes
    games, score = draw(board, 20, np.random.default_rng(3))
    first, second = board.votes.pairs
    tables = np.zeros((20, 5, 5))
    tables[:, first, second], tables[:, second, first] = score.T, (games - score).T
    np.testing.assert_allclose(resampled(board, n_resamples=20, seed=3), optimum(tables)[0], atol=1e-5)


@pytest.mark.parametrize(("n_people", "whims"), [(0, 0.0), (80, 1.0)])
def test_its_spread_is_that_of_the_sandwich_on_many_votes(n_people, whims):
    board = leaderboard(battles(6000, n_people=n_people, whims=whims))
    found = resampled(board, n_resamples=1500)
    np.testing.assert_allclose(found.std(axis=0), np.sqrt(np.diag(board.covariance)), rtol=0.12)
    rows = {row.system: row for row in resampled_board(board, n_resamples=1500)}
    for row in board.standings:
        assert rows[row.system].score == row.score
        assert rows[row.system].ci_low == pytest.approx(row.ci_low, abs=0.3 * (row.score - row.ci_low))


def test_intervals_hold_the_truth_on_a_sparse_board_where_drawing_within_pairs_is_far_too_sure():
    # 12 systems, 66 pairs, 130 votes: two votes a pair, of which drawing within the pair makes almost nothing.
    truth = np.linspace(0.6, -0.6, 12)
    inside, within_pairs = [], []
    for seed in range(25):
        board = leaderboard(battles(130, 12, seed=seed, spread=0.6))
        if board.prior:
            continue
        rows = {row.system: row for row in resampled_board(board, n_resamples=300)}
        score, rng = board.votes.counts, np.random.default_rng(seed)
        i, j = board.votes.pairs
        outcomes = np.stack([score.wins[i, j], score.ties[i, j], score.wins[j, i]], axis=1)
        tables = np.zeros((300, 12, 12))
        for pair, (a, b) in enumerate(zip(i, j, strict=True)):
            n = int(outcomes[pair].sum())
            drawn = rng.multinomial(n, outcomes[pair] / n, size=300)
            tables[:, a, b], tables[:, b, a] = drawn[:, 0] + drawn[:, 1] / 2, drawn[:, 2] + drawn[:, 1] / 2
        low, high = np.quantile(optimum(tables, l2=0.01)[0], [0.025, 0.975], axis=0)
        for place, name in enumerate(board.systems):
            at = truth[int(name[1:])]
            inside.append(rows[name].ci_low <= 1000 + POINTS * at <= rows[name].ci_high)
            within_pairs.append(low[place] <= at <= high[place])
    assert len(inside) > 100
    assert 0.88 <= np.mean(inside) <= 0.99
    assert np.mean(within_pairs) < np.mean(inside) - 0.08


def test_a_system_with_two_votes_never_vanishes_and_its_interval_is_wide():
    rare = [{"system_a": "rare", "system_b": "s0", "outcome": outcome} for outcome in ("a", "b")]
    board = leaderboard(Battles.from_rows([*battles().table.to_pylist(), *rare]))
    found = resampled(board, n_resamples=400)
    assert np.isfinite(found).all()
    rows = {row.system: row for row in resampled_board(board, n_resamples=400)}
    widths = {name: row.ci_high - row.ci_low for name, row in rows.items()}
    assert widths["rare"] > 4 * max(width for name, width in widths.items() if name != "rare")


def test_settings_that_make_no_interval_are_refused():
    board = leaderboard(battles(100))
    with pytest.raises(SettingsError, match="at least 2"):
        resampled(board, n_resamples=1)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        resampled_board(board, level=95)
