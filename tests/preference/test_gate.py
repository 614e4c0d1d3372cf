"""What texts say of heads: the objective against brute force, texts never read, and texts that say nothing."""

import numpy as np
from scipy.special import log_softmax, logsumexp

from penchant.preference.gate import Gate

EVEN = np.log([0.5, 0.5])


def labelled(n_texts, n_each, *, seed=0, telling=True):
    """Texts in three dimensions of which the first says which of two heads speaks, and pairs that it explains."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_texts, 3))
    text = np.repeat(np.arange(n_texts), n_each)
    head = (vectors[text, 0] > 0).astype(int) if telling else rng.integers(2, size=len(text))
    log_likelihood = np.full((len(text), 2), np.log(0.2))
    log_likelihood[np.arange(len(text)), head] = np.log(0.9)
    return vectors, text, log_likelihood


def test_texts_never_read_before_are_understood():
    gate = Gate.learnt(*labelled(40, 8)[:2], EVEN, labelled(40, 8)[2])
    new = labelled(200, 1, seed=1)[0]
    assert ((gate(new).argmax(axis=1) == 1) == (new[:, 0] > 0)).mean() > 0.9


def test_texts_that_say_nothing_are_no_gate():
    vectors, text, log_likelihood = labelled(40, 4, telling=False)
    assert Gate.learnt(vectors, text, EVEN, log_likelihood) is None
    assert Gate.learnt(vectors[:1], 0 * text, EVEN, log_likelihood) is None
    assert Gate.learnt(vectors[:, :0], text, EVEN, log_likelihood) is None


def test_no_gate_nearby_makes_the_pairs_more_likely():
    vectors, text, log_likelihood = labelled(12, 3)
    log_prior = np.log([0.7, 0.3])
    gate = Gate.learnt(vectors, text, log_prior, log_likelihood)

    def objective(weights, precision):
        log_weights = log_softmax(log_prior + ((vectors - gate.centre) @ weights.T)[text], axis=1)
        return logsumexp(log_weights + log_likelihood, axis=1).sum() - precision / 2 * (weights**2).sum()

    rng = np.random.default_rng(0)
    steps = 1e-2 * rng.standard_normal((30, 2, 3))
    best = [
        all(objective(gate.weights + step, precision) < objective(gate.weights, precision) for step in steps)
        for precision in (0.01, 0.1, 1.0, 10.0)
    ]
    assert sum(best) == 1
