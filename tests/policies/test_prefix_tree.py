"""Sequences that begin alike: every path is whole, nothing shared stands twice, nobody sees another branch."""

from hypothesis import given
from hypothesis import strategies as st

from penchant.policies.prefix_tree import PrefixTree

SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=6).map(lambda rest: (7, *rest)), min_size=1, max_size=6)


@given(SEQUENCES)
def test_a_path_spells_its_sequence_and_counts_its_positions(sequences):
    tree = PrefixTree(sequences)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert tuple(tree.tokens[place] for place in path) == sequence
        assert [tree.positions[place] for place in path] == list(range(len(sequence)))
        assert path == sorted(path)


@given(SEQUENCES)
def test_every_beginning_stands_there_once(sequences):
    beginnings = {sequence[:n] for sequence in sequences for n in range(1, len(sequence) + 1)}
    assert len(PrefixTree(sequences)) == len(beginnings)


@given(SEQUENCES)
def test_a_token_sees_exactly_what_leads_to_it(sequences):
    tree = PrefixTree(sequences)
    sees = tree.sees()
    for path in tree.paths:
        for n, place in enumerate(path):
            assert [i for i in range(place + 1) if sees[place, i]] == path[: n + 1]


@given(SEQUENCES)
def test_groups_cover_all_behind_the_trunk_and_cut_no_subtree(sequences):
    tree = PrefixTree(sequences)
    covered = [place for start, end in tree.groups() for place in range(start, end)]
    assert covered == list(range(tree.trunk, len(tree)))
    sees = tree.sees()
    for start, end in tree.groups():
        assert not sees[start:end, tree.trunk : start].any()


def test_large_subtrees_are_computed_apart_and_small_ones_together():
    trunk = tuple(range(10))
    small = PrefixTree([(*trunk, 20 + i, 30) for i in range(6)])
    assert small.groups() == [(10, 20), (20, 22)]
    large = PrefixTree([(*trunk, *range(20 * i, 20 * i + 9)) for i in (1, 2)])
    assert large.groups() == [(10, 19), (19, 28)]
