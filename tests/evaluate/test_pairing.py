import numpy as np

from penchant.evaluate.pairing import shrinkage
from penchant.preference.counts import Counts, _inverse, _laplacian, abilities


def test_the_gain_is_the_difference_of_traces_with_one_more_vote():
    counts = Counts.of([0, 1, 1, 2], [1, 0, 2, 1], [5, 3, 2, 4], 3)
    fit, gain = abilities(counts, l2=1.0), shrinkage(counts)
    p = 1 / (1 + np.exp(fit.abilities - fit.abilities[:, None]))
    games = (counts.score + counts.score.T) * p * (1 - p)
    more = games.copy()
    more[0, 2] += p[0, 2] * (1 - p[0, 2])
    more[2, 0] = more[0, 2]
    before, after = (np.trace(_inverse(_laplacian(one, 1.0))) for one in (games, more))
    np.testing.assert_allclose(gain[0, 2], before - after, rtol=1e-9)
