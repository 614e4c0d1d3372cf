"""Sequences that begin alike, laid out in one row so that whatever several of them share stands there once.

>>> tree = PrefixTree([(1, 2, 3, 4), (1, 2, 5), (1, 2, 3, 6)])
>>> tree.tokens, tree.positions, tree.trunk
([1, 2, 3, 4, 6, 5], [0, 1, 2, 3, 3, 2], 2)
>>> tree.paths
[[0, 1, 2, 3], [0, 1, 5], [0, 1, 2, 4]]
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray


class _Segment:
    """Tokens without a fork; `after` leads on by the first token of what follows."""

    def __init__(self, tokens: Sequence[int], after: "dict[int, _Segment]"):
        self.tokens, self.after = tokens, after
        self.start = self.n_before = 0  # place of the first token in the row, and on the path


class PrefixTree:
    """Sequences as the paths of a tree.

    Args:
        sequences: of token ids, at least one; all start with the same token.

    Attributes:
        tokens: the row, depth first: everything that leads to a token stands before it, [n].
        positions: how many tokens lead to each, [n].
        paths: of each sequence the places of its tokens in the row, ascending.
        trunk: how many tokens stand before the first fork: what all have in common.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]):
        root = _Segment((), {})
        for sequence in sequences:
            _insert(root, sequence)
        [trunk] = root.after.values()
        self.trunk = len(trunk.tokens)
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self._segments: list[int] = []  # number of the segment of each token
        self._leads: list[int] = []  # of each segment the one it continues; of the trunk itself
        self._forks: list[int] = []  # where the subtrees behind the trunk start
        self._lay_out(trunk)
        self.paths = [list(_path(trunk, sequence)) for sequence in sequences]

    def __len__(self) -> int:
        """Tokens of the row."""
        return len(self.tokens)

    def sees(self) -> NDArray[np.bool_]:
        """Which segments a token may see: its own and those that lead to it, bool[n, n]; not yet that it be earlier."""
        leads = np.eye(len(self._leads), dtype=np.bool_)
        for number, before in enumerate(self._leads):
            leads[number] |= leads[before]
        segment = np.array(self._segments)
        return np.asarray(leads[segment][:, segment])

    def groups(self) -> list[tuple[int, int]]:
        """Ranges of the subtrees behind the trunk, small neighbours together: few calls, and little that is masked."""
        found: list[tuple[int, int]] = []
        for start, end in pairwise([*self._forks, len(self)]):
            if found and end - found[-1][0] <= self.trunk:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
        return found

    def _lay_out(self, trunk: _Segment) -> None:
        waiting: list[tuple[_Segment, int]] = [(trunk, 0)]
        while waiting:
            segment, before = waiting.pop()
            number = len(self._leads)
            segment.start = len(self.tokens)
            if before == 0 and number > 0:
                self._forks.append(segment.start)
            self._leads.append(before)
            self.tokens += segment.tokens
            self._segments += [number] * len(segment.tokens)
            end = segment.n_before + len(segment.tokens)
            self.positions += range(segment.n_before, end)
            for following in reversed(segment.after.values()):
                following.n_before = end
                waiting.append((following, number))


def _insert(segment: _Segment, sequence: Sequence[int]) -> None:
    at = 0
    while at < len(sequence):
        following = segment.after.get(sequence[at])
        if following is None:
            segment.after[sequence[at]] = _Segment(sequence[at:], {})
            return
        n_equal = _n_equal(following.tokens, sequence[at : at + len(following.tokens)])
        at += n_equal
        if at < len(sequence) and n_equal < len(following.tokens):  # a fork within it
            rest = _Segment(following.tokens[n_equal:], following.after)
            following.tokens, following.after = following.tokens[:n_equal], {rest.tokens[0]: rest}
        segment = following


def _n_equal(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    if one == other:
        return len(one)
    return next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other))


def _path(trunk: _Segment, sequence: Sequence[int]) -> Iterator[int]:
    """Places of the tokens of a sequence that is in the tree."""
    ranges, segment, at = [], trunk, 0
    while True:
        n = min(len(segment.tokens), len(sequence) - at)  # it may end within a longer one
        ranges.append(range(segment.start, segment.start + n))
        at += n
        if at == len(sequence):
            return chain.from_iterable(ranges)
        segment = segment.after[sequence[at]]
