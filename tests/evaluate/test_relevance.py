"""Relevance of lists: brute force, a peer's own numbers, and lists that cannot be measured."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import DataError
from penchant.evaluate.relevance import NAMES, relevance


def brute_force(one, wanted):
    """The definitions, place by place, of a user who wants something."""
    k = len(one)
    hit = [item in wanted for item in one]
    precision = [sum(hit[: place + 1]) / (place + 1) for place in range(k)]
    most = min(k, len(wanted))
    return {
        "HR": float(any(hit)),
        "MRR": next((1 / rank for rank, is_hit in enumerate(hit, 1) if is_hit), 0.0),
        "P": sum(hit) / k,
        "MAP": sum(p for p, is_hit in zip(precision, hit, strict=True) if is_hit) / most,
        "R": sum(hit) / len(wanted),
        "NDCG": sum(1 / math.log2(rank + 1) for rank, is_hit in enumerate(hit, 1) if is_hit)
        / sum(1 / math.log2(rank + 1) for rank in range(1, most + 1)),
    }


@st.composite
def cases(draw):
    n = draw(st.integers(2, 12))
    k, m = draw(st.integers(1, n)), draw(st.integers(1, 8))
    lists = [draw(st.permutations(range(n)))[:k] for _ in range(m)]
    return lists, [draw(st.sets(st.integers(0, n + 3))) for _ in range(m)]


@given(cases())
def test_every_measure_is_its_definition_and_a_user_who_wants_nothing_has_none(case):
    lists, wanted = case
    pairs = [(user, item) for user, items in enumerate(wanted) for item in items]
    users, items = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    found = relevance(np.array(lists), np.repeat(users, 2), np.repeat(items, 2))  # each pair twice counts once
    assert tuple(found) == NAMES
    for user, (one, those) in enumerate(zip(lists, wanted, strict=True)):
        if not those:
            assert all(math.isnan(found[name][user]) for name in NAMES)
            continue
        for name, value in brute_force(one, those).items():
            assert found[name][user] == pytest.approx(value, abs=1e-12), name


def test_numbers_are_those_of_a_recommender_library():
    peer = pytest.importorskip("implicit.evaluation")
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    scores = rng.random((60, 40))
    wanted = rng.random((60, 40)) < 0.1
    wanted[np.arange(60), rng.integers(40, size=60)] = True  # the peer leaves out who wants nothing
    lists = np.argsort(-scores, axis=1)

    class Ranked:
        def recommend(self, userid, user_items, N, **_):  # noqa: N803 - the peer's name
            users = np.asarray(userid)
            return lists[users, :N].astype(np.int32), None

    seen = csr_matrix((60, 40), dtype=np.float32)
    users, items = np.nonzero(wanted)
    for k in (1, 5, 20):
        theirs = peer.ranking_metrics_at_k(
            Ranked(), seen, csr_matrix(wanted.astype(np.float32)), K=k, show_progress=False
        )
        ours = relevance(lists[:, :k], users, items)
        assert ours["NDCG"].mean() == pytest.approx(theirs["ndcg"], abs=1e-9)
        assert ours["MAP"].mean() == pytest.approx(theirs["map"], abs=1e-9)
        # its precision is hits over what could be hit, all users together
        most = np.minimum(wanted.sum(axis=1), k).sum()
        assert ours["P"].sum() * k / most == pytest.approx(theirs["precision"], abs=1e-9)


@pytest.mark.parametrize(
    ("lists", "users", "items", "says"),
    [
        ([[0.5, 1.0]], [0], [0], "whole numbers"),
        ([[-1, 1]], [0], [0], "from 0 on"),
        ([0, 1], [0], [0], "shape"),
        (np.zeros((0, 3), dtype=int), [], [], "shape"),
        ([[0, 1]], [1], [0], "1 lists"),
        ([[0, 1]], [0, 0], [0], "needs its user"),
    ],
)
def test_what_cannot_be_measured_is_refused(lists, users, items, says):
    with pytest.raises(DataError, match=says):
        relevance(lists, users, items)
