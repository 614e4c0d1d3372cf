"""A vote on every pair by nets that never saw it: how strong is a preference, and what is done about the weak ones.

>>> votes = Votes(np.eye(2, dtype=np.float32), *np.array([[0, 0, 1], [1, 1, 0]]), *np.ones((2, 3), np.float32),
...               np.zeros(3, np.int64), ("ann",))
>>> voted(np.array([[2.0, 2.0, -2.0], [1.0, 1.0, -1.0]]), votes).strength.tolist()  # each voter on its own scale
[1.0, 1.0, -1.0]
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.objectives import bradley_terry
from penchant.preference.descent import descend, seeded
from penchant.preference.ensemble import Nets, Pairs, batch_size, differences_of
from penchant.preference.votes import Votes, first_and_place, joint_codes

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Treatment = Literal["keep", "flip", "soften", "margin", "flip+margin", "soften+margin"]

_MOST_PAIRS = 10_000  # a net of this size learns nothing more from further ones
GROUPS = ("wrong", "ambiguous", "normal", "contradictory")
_WRONG, _AMBIGUOUS, _NORMAL, _CONTRADICTORY = range(len(GROUPS))


@dataclass(frozen=True)
class Voted:
    """What the voters say of each pair, read so that the side with the label comes first.

    Attributes:
        strength: u, mean difference of rewards in units of each voter's spread, [pairs]; 0 where nobody could vote.
        spread: s, how far voters disagree, in the same units, [pairs].
        scale: logits in one unit: the voters' mean spread.
        group: place in `GROUPS` of each pair, int64[pairs].
    """

    strength: Array
    spread: Array
    scale: float
    group: Places

    @property
    def logits(self) -> Array:
        """The voters' log-odds that the label is what somebody prefers, [pairs]."""
        return self.strength * self.scale

    @property
    def counts(self) -> dict[str, int]:
        """Pairs in each group."""
        found = np.bincount(self.group, minlength=len(GROUPS))
        return dict(zip(GROUPS, found.tolist(), strict=True))


def labelled_first(votes: Votes) -> Votes:
    """The same votes with the preferred response as `chosen`: strengths below 0.5 are turned round."""
    turned = votes.strength < 0.5
    return replace(
        votes,
        chosen=np.where(turned, votes.rejected, votes.chosen),
        rejected=np.where(turned, votes.chosen, votes.rejected),
        strength=np.maximum(votes.strength, 1 - votes.strength),
        margin=np.where(turned, -votes.margin, votes.margin),
    )


def same_pairs(votes: Votes) -> Places:
    """A number for each pair of responses, the same whichever was preferred, int64[pairs]."""
    low, high = np.minimum(votes.chosen, votes.rejected), np.maximum(votes.chosen, votes.rejected)
    return first_and_place(joint_codes(low, high))[1]


def cross_fitted(
    votes: Votes,
    *,
    members: int,
    folds: int,
    hidden: int,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> Array:
    """Differences of rewards by voters who never saw the pair, chosen minus rejected, logits, [members, pairs].

    Each member is one net for each fold, learnt from all others; equal pairs are in one fold, and each member has
    folds, an order and first weights of its own. How long to learn is told by the pairs left out. Of very many pairs
    each net learns from some, drawn at random; all are voted on.

    Args:
        votes: with vectors on one scale.
        members: votes that each pair gets, >= 2.
        folds: parts, >= 2.
        hidden: width of the nets.
        epochs: most passes over the pairs.
        learning_rate: of all.
        seed: of everything that is drawn.
    """
    keys = same_pairs(votes)
    rng = np.random.default_rng(seed)
    n_keys = int(keys.max(initial=-1)) + 1
    fold = np.stack([(rng.permutation(n_keys) % folds)[keys] for _ in range(members)])  # [members, pairs]
    left_out = np.concatenate([fold == part for part in range(folds)])  # [folds * members, pairs]
    with seeded(seed):
        nets = Nets(len(left_out), dim=votes.vectors.shape[1], hidden=hidden)
    learn = [rng.permutation(np.flatnonzero(~out))[:_MOST_PAIRS] for out in left_out]
    some = votes.of(checked := rng.permutation(len(votes))[:_MOST_PAIRS])
    longest = max(map(len, learn))
    order = torch.from_numpy(np.stack([np.resize(rows, longest) for rows in learn]))  # a few rows twice
    data = Pairs.of(votes)
    asked, mask = Pairs.of(some), torch.from_numpy(left_out[:, checked])

    def surprise() -> float:
        ahead = differences_of(nets, some)
        return float(bradley_terry(ahead, torch.zeros(()), margin=asked.margin, strength=asked.strength)[mask].mean())

    descend(
        lambda rows: data.loss(nets, order[:, rows]).mean(dim=1).sum(),
        nets.parameters(),
        longest,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size(longest),
        seed=seed,
        measure=surprise,
        patience=3,
    )
    ahead = differences_of(nets, votes).numpy().astype(np.float64).reshape(folds, members, len(votes))
    return np.asarray(np.take_along_axis(ahead, fold[None], axis=0)[0])


def voted(differences: Array, votes: Votes, *, share: float = 0.2) -> Voted:
    """Strength, spread and group of each pair.

    Args:
        differences: of rewards by each voter, [members, pairs].
        votes: the pairs, labelled first.
        share: of the pairs that are likely wrong, and of those that are ambiguous, in [0, 0.5).
    """
    own = np.sqrt((differences**2).mean(axis=1, keepdims=True))
    units = np.divide(differences, own, out=np.zeros_like(differences), where=own > 0)
    strength, keys = units.mean(axis=0), same_pairs(votes)
    is_label = votes.strength > 0.5  # a tie has no label that could be wrong
    low, middle = np.quantile(strength[is_label], [share, 2 * share]) if is_label.any() else (0.0, 0.0)
    group = np.full(len(strength), _NORMAL)
    group[is_label & (strength < middle)] = _AMBIGUOUS
    group[is_label & (strength < low)] = _WRONG
    first = votes.chosen < votes.rejected
    n_keys = int(keys.max(initial=-1)) + 1
    either, other = (np.bincount(keys[is_label & way], minlength=n_keys) for way in (first, ~first))
    group[((either > 0) & (other > 0))[keys]] = _CONTRADICTORY
    return Voted(strength, units.std(axis=0), float(own.mean()), group)


def treated(votes: Votes, found: Voted, treatment: Treatment, *, smoothing: float = 0.1) -> tuple[Votes, NDArray[Any]]:
    """The votes after treatment, and what was done to each: "keep", "flip" or "soften", "+margin" where one is set.

    Ties and contradictory pairs are kept as they are.

    Args:
        votes: labelled first.
        found: what the voters say of them.
        treatment: see the module.
        smoothing: share of the label that `soften` gives to the other side, in [0, 0.5).
    """
    open_to_doubt = (found.group != _CONTRADICTORY) & (votes.strength > 0.5)
    doubted = open_to_doubt & (found.strength < 0)
    flip = doubted & (found.group == _WRONG) & ("flip" in treatment)
    soften = doubted & ("soften" in treatment)
    done = np.where(flip, "flip", np.where(soften, "soften", "keep")).astype(object)
    strength, margin = votes.strength.astype(np.float64), votes.margin.astype(np.float64)
    margin = np.where(flip, -margin, margin)
    if "margin" in treatment:
        ahead = np.where(flip, -found.strength, found.strength)
        most = np.quantile(np.abs(ahead), 0.99, method="lower")
        asked = np.clip(ahead, 0.0, most) * found.scale * (2 * strength - 1) * open_to_doubt
        margin = margin + asked
        done = np.where(asked > 0, done + "+margin", done)
    strength = np.where(soften, strength * (1 - 2 * smoothing) + smoothing, strength)
    after = replace(
        votes,
        chosen=np.where(flip, votes.rejected, votes.chosen),
        rejected=np.where(flip, votes.chosen, votes.rejected),
        strength=strength.astype(np.float32),
        margin=margin.astype(np.float32),
    )
    return after, done
