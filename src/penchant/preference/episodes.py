"""Comparisons of one person, split into what is known and what must be predicted from it.

Whoever learns to infer people from a few choices trains on such splits: of the sets that a person's comparisons make,
some pairs are context, the others are targets. A target is never also context, not even where somebody judged the same
two responses twice.

>>> own = torch.tensor([[4, 5, 6]])  # pairs 4 and 6 are of the same two responses
>>> sets, is_context, is_target = split(own, torch.tensor([0, 1, 2, 3, 9, 8, 9]), context=1)
>>> int(is_context.sum()), int(is_target.sum()) == (2 if sets[is_context] == 5 else 1)
(1, True)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penchant.preference.votes import Votes, joint_codes, rows_by

Places = NDArray[np.int64]

_WIDEST_SET = 32  # pairs of one person in one set; who left more gives several
_FEWEST_PEOPLE = 10  # to set people aside; of fewer, pairs are set aside
_MOST_ASIDE = 300  # enough people to measure on
_DRAWS_OF_CONTEXT = 3
_SHARE_ASIDE = 0.2


@dataclass(frozen=True)
class Checks:
    """What is predicted while learning, to know when to stop and how far to trust: fixed once.

    Attributes:
        context: pairs that are known, -1 where there is none, [checks, pairs].
        targets: pairs to predict from them, -1 where there is none, [checks, pairs].
        unit: whose error counts as one, of each target: a person, or a pair of few people, [checks, pairs].
    """

    context: Places
    targets: Places
    unit: Places


def pair_codes(votes: Votes) -> Places:
    """One number for each unordered pair of responses, [pairs]."""
    return joint_codes(np.minimum(votes.chosen, votes.rejected), np.maximum(votes.chosen, votes.rejected))


def split(sets: Tensor, codes: Tensor, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each set in a new order, which of it is context (it comes first), and which is to be predicted.

    Between 1 and all but one are context, small contexts as often as large ones on a scale of octaves.

    Args:
        sets: pairs of one person each, at least two, -1 where there is none, int64[sets, pairs].
        codes: of each pair, as `pair_codes` gives them, int64[all pairs].
        context: most pairs that are known.

    Returns:
        int64, bool and bool [sets, pairs].
    """
    noise = torch.rand(sets.shape).masked_fill(sets < 0, 2.0)
    sets = sets.gather(1, noise.argsort(dim=1))
    present = sets >= 0
    most = (present.sum(dim=1, keepdim=True) - 1).clamp(max=context)
    n_known = (torch.rand(len(sets), 1) * torch.log2(most + 1.0)).exp2().floor()
    is_context = present & (torch.arange(sets.shape[1]) < n_known)
    own = codes[sets]
    is_read = ((own[:, :, None] == own[:, None, :]) & is_context[:, None, :]).any(dim=2)
    return sets, is_context, present & ~is_read


def set_apart(votes: Votes, context: int, seed: int) -> tuple[Places, Checks]:
    """Sets of pairs to learn from, [sets, pairs] with -1 where there is none, and what to check on.

    A fifth of the people is set aside; of fewer than ten people a third of each one's pairs. People with one pair play
    no part, and with fewer than two others there is nothing to tell apart: both are empty.
    """
    rng = np.random.default_rng(seed)
    people = [rng.permutation(one) for one in rows_by(votes.user, len(votes.people)) if len(one) >= 2]
    if len(people) < 2:
        return _padded([]), Checks(_padded([]), _padded([]), _padded([]))
    if len(people) >= _FEWEST_PEOPLE:
        order = rng.permutation(len(people))
        n_aside = min(_MOST_ASIDE, max(1, round(_SHARE_ASIDE * len(people))))
        aside = [people[person] for person in order[:n_aside] for _ in range(_DRAWS_OF_CONTEXT)]
        learnt = [people[person] for person in order[n_aside:]]
        drawn = [_drawn(own, context, rng) for own in aside]
    else:
        learnt, late = zip(*((own[len(own) // 3 or 1 :], own[: len(own) // 3 or 1]) for own in people), strict=True)
        drawn = [(own[:context], part) for own, all_late in zip(learnt, late, strict=True) for part in _parts(all_late)]
    codes = pair_codes(votes)
    targets = _padded([late[~np.isin(codes[late], codes[known])] for known, late in drawn])
    by_person = np.broadcast_to(np.arange(len(targets))[:, None] // _DRAWS_OF_CONTEXT, targets.shape)
    unit = by_person if len(people) >= _FEWEST_PEOPLE else np.maximum(targets, 0)
    sets = [part for own in learnt for part in _parts(own) if len(part) >= 2]
    return _padded(sets), Checks(_padded([known for known, _ in drawn]), targets, unit)


def _drawn(own: Places, context: int, rng: np.random.Generator) -> tuple[Places, Places]:
    """Some pairs of a person that are known, as many as `split` would draw, and others to predict."""
    own = rng.permutation(own)[: context + _WIDEST_SET]
    n_known = int(2 ** (rng.random() * np.log2(min(len(own) - 1, context) + 1)))
    return own[:n_known], own[n_known:]


def _parts(own: Places) -> list[Places]:
    """The pairs of a person in parts of about equal size, none above the widest."""
    return np.array_split(own, math.ceil(len(own) / _WIDEST_SET))


def _padded(parts: Sequence[Places]) -> Places:
    """Rows of different length as one array, -1 where there is nothing."""
    table = np.full((len(parts), max((len(part) for part in parts), default=0)), -1, dtype=np.int64)
    for place, part in enumerate(parts):
        table[place, : len(part)] = part
    return table
