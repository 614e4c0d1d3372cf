import numpy as np

from penchant.preference.familiarity import Neighbours


def test_the_distance_is_mahalanobis_where_every_direction_is_a_component():
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((500, 4)) @ np.diag([1.0, 2.0, 0.5, 3.0])
    found = Neighbours.of(seen, seen[:50])
    covariance = seen.T @ seen / len(seen)
    x = rng.standard_normal((7, 4))
    expected = np.sqrt(np.einsum("nd,de,ne->n", x, np.linalg.inv(covariance), x))
    np.testing.assert_allclose(found.distance(x), expected, rtol=1e-8)


def test_what_lies_off_the_main_directions_is_far_even_if_it_is_short():
    rng = np.random.default_rng(1)
    seen = rng.standard_normal((400, 50)) * np.r_[np.full(10, 5.0), np.full(40, 0.01)]
    found = Neighbours.of(seen[:300], seen[300:])
    along, across = np.eye(50)[:1] * 5, np.eye(50)[49:] * 5
    assert found.share_nearer(across) == 1.0
    assert found.share_nearer(along) < 0.5


def test_shares_count_what_was_set_aside():
    found = Neighbours.of(np.array([[1.0], [-1.0]] * 10), np.array([[0.5], [1.5], [2.5], [3.5]]))
    assert found.share_nearer(np.array([[0.0], [2.0], [9.0]])).tolist() == [0.0, 0.5, 1.0]
