"""Recommenders for reproductions about recommendations, on interactions of real people.

Item-kNN (cosine), ALS and BPR are those of the library `implicit`. EASE has a closed form, computed here from a matrix
of users by users, since there are fewer of them than items: with X the interactions, K = X X' and G = (K + l I)^-1,
Woodbury's identity gives P = (X'X + l I)^-1 = (I - X' G X) / l, so that the scores X (I - P / diag(P)) are
X - G X / diag(P). Most-popular and random need no library.

Source:
    Hu, Koren and Volinsky (2008) for ALS; Rendle et al. (2009) for BPR; Steck (2019) for EASE.
"""

import csv
import gzip
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from penchant import methods
from penchant.errors import DataError, MissingExtraError
from penchant.reproductions.real_data import real_data

Array = NDArray[np.float32]
Ints = NDArray[np.int64]

# One setting of each for both sets, chosen by NDCG@10 on each user's last but one interaction (`before=1`).
NEIGHBOURS, EASE_L2 = 50, 100.0
ALS = {"factors": 64, "regularization": 10.0}
BPR = {"factors": 16, "regularization": 0.01, "learning_rate": 0.02, "iterations": 100}


@dataclass(frozen=True)
class Interactions:
    """Who interacted with what, and the last of each user held out.

    Attributes:
        known: 1 where a user interacted with an item and the interaction is not held out, [users, items].
        held_out: item of each user, int64[users].
    """

    known: csr_matrix
    held_out: Ints

    @property
    def n_items(self) -> int:
        """The whole catalogue."""
        return int(self.known.shape[1])


_FILES: Mapping[str, tuple[str, str, str, str | None]] = {
    "MovieLens": ("movielens_latest_small/ratings.csv.gz", "userId", "movieId", "timestamp"),
    "Last.fm": ("lastfm_listening/user_artists.csv.gz", "userID", "artistID", None),
}
DATA = tuple(_FILES)
_FEWEST = 5  # interactions of a user, and of an item


def interactions(name: str, rng: np.random.Generator, *, before: int = 0) -> Interactions:
    """A real set, users and items with fewer than five interactions taken out until there are none.

    Args:
        name: one of `DATA`. Any rating is an interaction, and so is any listening.
        rng: Last.fm has no times: there the held-out interaction is drawn, and so is one among equal times.
        before: interactions left out at each user's end first, so that settings can be chosen on others than those
            that are reported.

    Raises:
        DataError: the set is not there.
    """
    path_name, user_name, item_name, time_name = _FILES[name]
    path = real_data(path_name)
    if path is None:
        raise DataError(
            f"The recommendations are of real people: set PENCHANT_DATA to a folder with {path_name} (columns "
            f"{user_name}, {item_name}{f', {time_name}' if time_name else ''})."
        )
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    user, item = (np.array([int(row[key]) for row in rows]) for key in (user_name, item_name))
    time = np.array([int(row[time_name]) if time_name else 0 for row in rows])
    kept = core(user, item, _FEWEST)
    user, item = (np.unique(one[kept], return_inverse=True)[1] for one in (user, item))
    order = np.lexsort((rng.random(len(user)), time[kept], user))
    user, item = user[order], item[order]
    from_the_end = np.cumsum(np.bincount(user))[user] - np.arange(len(user)) - 1
    shape = (user.max() + 1, item.max() + 1)
    known = from_the_end > before
    ones = np.ones(int(known.sum()), dtype=np.float32)
    return Interactions(csr_matrix((ones, (user[known], item[known])), shape), item[from_the_end == before])


def core(user: Ints, item: Ints, fewest: int) -> NDArray[np.bool_]:
    """Which rows are left when users and items with too few of them are taken out until there are none, bool[rows]."""
    kept = np.ones(len(user), dtype=bool)
    while True:
        few = [one[kept][np.bincount(one[kept])[one[kept]] < fewest] for one in (user, item)]
        if not few[0].size and not few[1].size:
            return kept
        kept &= ~(np.isin(user, few[0]) | np.isin(item, few[1]))


def popular(data: Interactions, seed: int) -> Array:
    """How many users interacted with each item."""
    times = np.asarray(data.known.sum(axis=0), dtype=np.float32)
    return np.asarray(np.broadcast_to(times, data.known.shape))


def at_random(data: Interactions, seed: int) -> Array:
    """Nothing that anybody did."""
    return np.asarray(np.random.default_rng([43, seed]).random(data.known.shape, dtype=np.float32))


def neighbours(data: Interactions, seed: int) -> Array:
    """Item-kNN: cosine of an item's users with those of the items that a user knows, summed."""
    model = _fitted("nearest_neighbours:CosineRecommender", data, K=NEIGHBOURS)
    return np.asarray((data.known @ model.similarity).toarray(), dtype=np.float32)


def als(data: Interactions, seed: int) -> Array:
    """Implicit matrix factorisation by alternating least squares."""
    model = _fitted("als:AlternatingLeastSquares", data, random_state=seed, **ALS)
    return np.asarray(model.user_factors @ model.item_factors.T)


def bpr(data: Interactions, seed: int) -> Array:
    """Matrix factorisation by Bayesian personalised ranking."""
    model = _fitted("bpr:BayesianPersonalizedRanking", data, random_state=seed, **BPR)
    return np.asarray(model.user_factors @ model.item_factors.T)


def ease(data: Interactions, seed: int, *, l2: float = EASE_L2) -> Array:
    """EASE: the linear regression of each item on all others."""
    known = data.known.astype(np.float64)
    gram = (known @ known.T).toarray()
    dense = known.toarray()
    shrunk = cho_solve(cho_factor(gram + l2 * np.eye(len(gram))), dense)  # G X
    diagonal = (1 - np.einsum("ui,ui->i", dense, shrunk)) / l2
    return np.asarray(dense - shrunk / diagonal, dtype=np.float32)


Scores = Callable[[Interactions, int], Array]
RECOMMENDERS: Mapping[str, Scores] = {
    "most popular": popular,
    "random": at_random,
    "item-kNN": neighbours,
    "ALS": als,
    "BPR": bpr,
    "EASE": ease,
}


def _fitted(path: str, data: Interactions, **settings: Any) -> Any:
    """A model of the library, learnt in one thread, so that the same seed gives the same model."""
    try:
        import implicit  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("Recommenders need implicit: pip install 'penchant[recommenders]'.") from error
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Method expects CSR input")  # it passes another form to itself
        model = methods.resolve(f"implicit.{path}")(num_threads=1, **settings)
        model.fit(data.known, show_progress=False)
    return model


def top(scores: Array, data: Interactions, k: int, rng: np.random.Generator) -> Ints:
    """The k items of each user with the highest scores that the user does not know, ties at random, [users, k]."""
    shuffled = rng.permutation(data.n_items)
    ranked = np.where(data.known.toarray() > 0, -np.inf, scores)[:, shuffled]
    best = np.argpartition(-ranked, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(ranked, best, axis=1), axis=1, kind="stable")
    return np.asarray(shuffled[np.take_along_axis(best, order, axis=1)])
