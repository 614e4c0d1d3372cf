"""The gradient that is never formed against the paper's loss by autograd; planted directions found again."""

import itertools

import numpy as np
import pytest
import torch

from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.preference.sparse_autoencoder import SparseAutoencoder, kept, losses_and_gradient

LEVELS_OF_8_AND_12 = np.where(np.maximum.outer(np.arange(12), np.arange(12)) < 8, 1.0, 0.5).astype(np.float32)


def planted(n=4000, dim=24, n_reasons=6, seed=0):
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((dim, n_reasons)))[0].T
    present = rng.choice([-1.0, 0.0, 1.0], size=(n, n_reasons), p=[0.1, 0.8, 0.1]) * rng.uniform(
        0.8, 1.2, (n, n_reasons)
    )
    return present @ directions + 0.02 * rng.standard_normal((n, dim)), present


def by_the_paper(encoder, decoder, x, n_active, prefixes, dead):
    """Loss of x and of -x together, offsets zero: errors formed, everything by autograd."""
    both = torch.cat([x, -x])
    z = both @ encoder.T
    size = z.abs().flatten()
    a = torch.where(z.abs() >= size.kthvalue(size.numel() - n_active * len(both) + 1).values, z, 0.0)

    def share(target, guess):
        return (target - guess).square().mean() / (target - target.mean(dim=0)).square().mean()

    loss = torch.stack([share(both, a[:, :p] @ decoder[:p]) for p in prefixes]).mean()
    if len(dead):
        error = (both - a @ decoder).detach()
        asleep = z[:, dead]
        least = asleep.abs().topk(min(2 * n_active, len(dead)), dim=1).values[:, -1:]
        loss = loss + share(error, torch.where(asleep.abs() >= least, asleep, 0.0) @ decoder[dead]) / 32
    return loss


@pytest.mark.parametrize("dead", [[], [2], [1, 5, 9, 10, 11]])
def test_the_gradient_is_that_of_the_papers_loss_on_differences_and_the_same_turned_round(dead):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 20))
    weights = rng.standard_normal((24, 20))
    weights[12:] /= np.linalg.norm(weights[12:], axis=1, keepdims=True)
    encoder, decoder = (torch.tensor(part, requires_grad=True) for part in (weights[:12], weights[12:]))
    loss = by_the_paper(encoder, decoder, torch.tensor(x), 2, (8, 12), dead)
    loss.backward()
    found = losses_and_gradient(
        weights, x, float((x**2).sum()), n_active=2, levels=LEVELS_OF_8_AND_12.astype(float), dead=np.array(dead, int)
    )
    assert found.loss == pytest.approx(loss.item(), rel=1e-9)
    np.testing.assert_allclose(found.gradient[:12], encoder.grad.numpy(), atol=1e-9)
    np.testing.assert_allclose(found.gradient[12:], decoder.grad.numpy(), atol=1e-9)


def test_the_largest_of_the_batch_are_kept_whatever_their_sign_and_row():
    mask, smallest = kept(np.array([[5.0, -4.0, 0.1], [0.2, -0.3, 3.0]], np.float32), 3)
    assert mask.tolist() == [[True, True, False], [False, False, True]]
    assert smallest == 3.0


def test_planted_directions_are_found_with_their_sizes_and_little_is_left_over():
    x, present = planted()
    model = SparseAutoencoder(n_features=8, n_active=2).fit(x[:3000])
    with np.errstate(invalid="ignore"):  # two of eight directions have nothing to do
        correlations = np.abs(np.corrcoef(model.activations(x[3000:]).T, present[3000:].T)[:8, 8:])
    assert (np.nan_to_num(correlations).max(axis=0) > 0.95).mean() >= 5 / 6
    assert model.unexplained(x[3000:]) < 0.15


def test_a_difference_turned_round_has_its_activations_turned_round_exactly():
    x, _ = planted(1000)
    model = SparseAutoencoder(n_features=8, n_active=2, epochs=3).fit(x)
    np.testing.assert_array_equal(model.activations(-x), -model.activations(x))
    assert SparseAutoencoder(n_features=8, n_active=2, epochs=3).fit(x).history_ == model.history_


def test_about_as_many_are_active_later_as_in_training_and_rows_of_the_decoder_have_length_one():
    x, _ = planted()
    model = SparseAutoencoder(n_features=8, n_active=2).fit(x)
    assert (model.activations(x) != 0).sum(axis=1).mean() == pytest.approx(2, abs=0.5)
    np.testing.assert_allclose(np.linalg.norm(model.decoder_, axis=1), 1, rtol=1e-5)


def test_the_unit_of_a_column_makes_no_difference():
    x, _ = planted(1000)
    unit = np.where(np.arange(x.shape[1]) % 2, 1000.0, 1.0)
    plain, scaled = (SparseAutoencoder(n_features=8, n_active=2, epochs=3).fit(x * by) for by in (1.0, unit))
    np.testing.assert_allclose(plain.activations(x), scaled.activations(x * unit), atol=1e-3)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    x, _ = planted(600)
    model = SparseAutoencoder(n_features=8, n_active=2, prefixes=(3, 8), epochs=2).fit(x)
    model.save(tmp_path)
    again = SparseAutoencoder.load(tmp_path)
    np.testing.assert_array_equal(again.activations(x), model.activations(x))
    assert (list(again.prefixes), again.history_) == ([3, 8], model.history_)
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.safetensors"]
    (tmp_path / "autoencoder.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="no sparse autoencoder"):
        SparseAutoencoder.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_features": 4, "n_active": 5}, "n_active"),
        ({"prefixes": (8, 8, 32)}, "increasing"),
        ({"prefixes": (8, 16)}, "end with n_features"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(SettingsError, match=said):
        SparseAutoencoder(**settings)


def test_data_that_cannot_be_learnt_from_are_refused_with_what_to_do():
    model = SparseAutoencoder(n_features=8, n_active=2)
    x, _ = planted(200)
    with pytest.raises(NotFittedError):
        model.activations(x)
    with pytest.raises(DataError, match="n_features to 7 or less"):
        model.fit(x[:79])
    with pytest.raises(DataError, match="8 directions in 4 dimensions"):
        model.fit(x[:, :4])
    with pytest.raises(DataError, match="sees no difference"):
        model.fit(np.zeros_like(x))
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="the first in row 3"):
        model.fit(x)
    with pytest.raises(DataError, match="have 5 dimensions"):
        SparseAutoencoder(n_features=8, n_active=2, epochs=1).fit(planted(200)[0]).activations(np.ones((2, 5)))


def test_pairs_without_any_difference_are_no_obstacle():
    x, _ = planted(400)
    x[:300] = 0
    model = SparseAutoencoder(n_features=8, n_active=2, epochs=2, batch_size=16).fit(x)
    assert all(np.isfinite(value) for value in itertools.chain(model.history_, model.decoder_.ravel()))
