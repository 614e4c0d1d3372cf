r"""The few directions along which the two responses of a pair differ: a sparse autoencoder of differences of vectors.

Each difference x of two responses' vectors is rebuilt from a few of M directions. In training, of a batch of B
differences the K B activations of greatest size are kept, whatever their sign:

$$z = E x,\quad a = \mathrm{top}_{KB}(|z|)\odot z,\quad \hat x = a D,\quad |D_j| = 1$$

The loss is the mean over prefixes p of the directions of the share of x that the first p leave unexplained, plus 1/32
of the share of the remaining error that dead directions (silent for 64 steps), 2 K of them a row, leave unexplained.
Later an activation is kept where it is beyond a threshold, the running mean of the smallest one that training kept.

What the authors do and we do not:

- They learn offsets b and c and train on x and -x. By that symmetry both tend to zero; here they are zero, so that
  a(-x) = -a(x) holds exactly, and the step on -x, whose gradient is the same, need not be taken.
- In their code the full pipeline calls the loss without two of its arguments, dead directions are given their greatest
  *signed* activations, and evaluating counts as silence: here they are chosen by size, and only training counts.
- Their threshold starts at zero; here its running mean is freed of where it starts.
- Their batches of 256 and rate of 0.0005 are for sets of tens of thousands of pairs. With a few thousand, fifty epochs
  of these end before much is learnt; 64 and 0.001 were chosen on simulated sets of 700 and 2,800 pairs.

Why not the loop of `descent`: for a model this small almost all of its time would be spent between the products. All
that is needed of a batch are its products with E and D together, and their transpose; whatever else the gradient needs
is as small as batch times M or M times M (`losses_and_gradient`). So a step is two products of matrices, and no error
of the size of the batch is ever formed. Nothing here needs torch.

Source:
    Movva, Milli, Min and Pierson (2025), What's In My Human Feedback? Learning Interpretable Descriptions of Preference
    Data, section 3 and appendix; Bussmann, Leask and Nanda (2024), BatchTopK sparse autoencoders; Bussmann et al.
    (2025), Learning multi-level features with Matryoshka sparse autoencoders; Gao et al. (2024), Scaling and evaluating
    sparse autoencoders (dead directions).

>>> rng = np.random.default_rng(0)
>>> reasons = rng.standard_normal((2000, 4)) * (rng.random((2000, 4)) < 0.3)
>>> differences = reasons @ rng.standard_normal((4, 16))
>>> model = SparseAutoencoder(n_features=8, n_active=2, learning_rate=0.01).fit(differences)
>>> model.unexplained(differences) < 0.1
True
>>> bool((model.activations(-differences) == -model.activations(differences)).all())
True
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.whole import whole_file

Floats = NDArray[np.float32]

_FILE = "autoencoder.safetensors"
_ABOUT = "penchant"  # in the file's head
_SILENT_STEPS = 64  # a direction that no batch has used for so long is dead
_DEAD_SHARE = 1 / 32  # weight of what dead directions should explain
_THRESHOLD_RATE = 0.01
_CLIP = 1.0  # longest gradient
_FEWEST_EPOCHS = 10
_ROWS_PER_FEATURE = 10
_SHARE_SET_ASIDE = 0.1


class Gradient(NamedTuple):
    """What one batch says.

    Attributes:
        loss: mean over prefixes of the unexplained share, plus what dead directions leave.
        gradient: of encoder and decoder below each other, [2 features, dim].
        threshold: size of the smallest activation that was kept.
        used: whether any row of the batch has used each direction, bool[features].
    """

    loss: float
    gradient: Floats
    threshold: float
    used: NDArray[np.bool_]


def kept(activations: Floats, n: int) -> tuple[NDArray[np.bool_], float]:
    """The n activations of greatest size of a whole batch, and the size of the smallest of them.

    >>> kept(np.array([[3.0, -0.5], [0.1, -2.0]], np.float32), 2)[0].tolist()
    [[True, False], [False, True]]
    """
    size = np.abs(activations)
    flat = size.ravel()
    smallest = float(np.partition(flat, flat.size - n)[flat.size - n])
    return size >= smallest, smallest


def losses_and_gradient(
    weights: Floats,
    batch: Floats,
    batch_square: float,
    *,
    n_active: int,
    levels: Floats,
    dead: NDArray[np.int64],
) -> Gradient:
    r"""The loss of a batch and its gradient, without ever forming what was rebuilt.

    With $Y = X D^T$ and $G = D D^T$ the error of a prefix is $|X|^2 - 2 \langle A, Y \rangle + \langle A^T A, G
    \rangle$ on the prefix's directions, and its gradients are $A G - Y$ with regard to A (where A is not zero) and
    $A^T A D - A^T X$ with regard to D. Summed over prefixes each pair of directions counts as often as there are
    prefixes that hold both.

    Args:
        weights: encoder and decoder below each other, [2 features, dim]; rows of the decoder have length one.
        batch: differences, [rows, dim].
        batch_square: sum of their squares.
        n_active: K, directions that a row uses on average.
        levels: prefixes that hold each pair of directions, as a share of all prefixes, [features, features].
        dead: numbers of the dead directions.
    """
    n_rows, n_features = len(batch), len(weights) // 2
    decoder = weights[n_features:]
    products = batch @ weights.T
    activations, on_decoder = products[:, :n_features], products[:, n_features:]
    is_kept, threshold = kept(activations, n_active * n_rows)
    a = activations * is_kept
    gram, together = decoder @ decoder.T, a.T @ a
    share, shared_gram = np.diagonal(levels), gram * levels
    pull = (a @ shared_gram - on_decoder * share) * is_kept
    scale = 2 / batch_square
    # <A, A G> and <A, A G - Y> are at hand, so <A, Y> need not be summed again.
    loss = 1 + scale * (float(np.vdot(a, pull)) - 0.5 * float(np.vdot(together, shared_gram)))
    towards = np.empty_like(products)  # what X is multiplied with, [rows, 2 features]
    np.multiply(pull, scale, out=towards[:, :n_features])
    np.multiply(a, -scale * share, out=towards[:, n_features:])
    between = together * levels * scale  # what D is multiplied with, [features, features]
    if len(dead):
        error = batch_square - 2 * float(np.vdot(a, on_decoder)) + float(np.vdot(together, gram))
        revived, more, on_error = _revived(activations, on_decoder, a, gram, dead, 2 * n_active)
        scale = 2 * _DEAD_SHARE / max(error, 1e-12 * batch_square)
        squares = revived.T @ revived
        loss += _DEAD_SHARE - scale * float(np.vdot(revived, on_error))
        loss += 0.5 * scale * float(np.vdot(squares, gram[np.ix_(dead, dead)]))
        towards[:, dead] += more * scale
        towards[:, n_features + dead] -= revived * scale
        between[dead] += (revived.T @ a) * scale
        between[np.ix_(dead, dead)] += squares * scale
    gradient = towards.T @ batch
    gradient[n_features:] += between @ decoder
    return Gradient(loss, gradient, threshold, np.diagonal(together) > 0)


def _revived(
    activations: Floats, on_decoder: Floats, a: Floats, gram: Floats, dead: NDArray[np.int64], most: int
) -> tuple[Floats, Floats, Floats]:
    """Activations of dead directions, the greatest of each row; their gradient; and products of the error with them."""
    asleep = activations[:, dead]
    size = np.abs(asleep)
    if most < len(dead):
        size[size < np.partition(size, -most, axis=1)[:, [-most]]] = 0
    revived = np.where(size > 0, asleep, 0)
    on_error = on_decoder[:, dead] - a @ gram[:, dead]
    return revived, (revived @ gram[np.ix_(dead, dead)] - on_error) * (size > 0), on_error


@dataclass
class _Adam:
    """Adam, in place."""

    learning_rate: float
    mean: Floats
    square: Floats
    steps: int = 0

    def move(self, weights: Floats, gradient: Floats) -> None:
        """One step; the gradient is overwritten."""
        self.steps += 1
        self.mean += 0.1 * (gradient - self.mean)
        np.square(gradient, out=gradient)
        self.square += 0.001 * (gradient - self.square)
        rate = self.learning_rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        np.sqrt(self.square, out=gradient)
        gradient += 1e-8
        np.divide(self.mean, gradient, out=gradient)
        gradient *= rate
        weights -= gradient


class SparseAutoencoder:
    """Directions along which differences vary, few of which make up any one of them.

    Args:
        n_features: directions to learn (M).
        n_active: directions that a difference uses on average (K).
        prefixes: numbers of first directions that must each do alone, increasing, the last being n_features; a quarter
            and all of them if not given.
        batch_size: differences of a step.
        learning_rate: of Adam.
        epochs: most passes over the differences.
        patience: stop after so many epochs (ten at least) without less being unexplained in a tenth of the differences
            that is set aside; 0 to run them all on all differences.
        seed: of the start and the order.

    Columns are divided by their spread first, so that an encoder that joins unlike numbers is not ruled by the largest.

    Attributes:
        scale_: spread of each column, float32[dim].
        encoder_: E, float32[features, dim].
        decoder_: D, rows of length one, float32[features, dim].
        threshold_: size beyond which an activation counts.
        history_: share unexplained after each epoch, of what was set aside or else of the batches.

    Raises:
        SettingsError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        n_features: int = 32,
        n_active: int = 4,
        prefixes: Sequence[int] | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        epochs: int = 50,
        patience: int = 10,
        seed: int = 0,
    ):
        if not 1 <= n_active <= n_features:
            raise SettingsError(f"n_active must be 1 to n_features, {n_features}: got {n_active!r}.")
        if min(batch_size, epochs) < 1 or patience < 0 or not learning_rate > 0:
            raise SettingsError(
                "batch_size and epochs must be at least 1, patience at least 0 and learning_rate above 0: got "
                f"{batch_size!r}, {epochs!r}, {patience!r} and {learning_rate!r}."
            )
        if prefixes is not None and (
            not prefixes
            or prefixes[0] < 1
            or prefixes[-1] != n_features
            or any(a >= b for a, b in itertools.pairwise(prefixes))
        ):
            raise SettingsError(
                f"prefixes must be increasing and end with n_features, {n_features}: got {tuple(prefixes)!r}."
            )
        self.n_features, self.n_active, self.prefixes = n_features, n_active, prefixes
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.epochs, self.patience, self.seed = epochs, patience, seed

    def fit(self, differences: ArrayLike) -> Self:
        """Learn the directions; nobody's preferences are looked at.

        Args:
            differences: vectors of first responses minus those of second ones, [pairs, dim]; the sign of each means
                nothing.

        Raises:
            DataError: there are fewer than ten pairs for each direction, more directions than dimensions, all
                differences are zero, or one is not finite.
        """
        x = self._checked(differences)
        self.scale_ = np.sqrt(np.einsum("nd,nd->d", x, x) / len(x))
        self.scale_[self.scale_ == 0] = 1
        x = x / self.scale_
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(x))
        n_aside = int(_SHARE_SET_ASIDE * len(x)) if self.patience else 0
        aside, rows = x[order[:n_aside]], order[n_aside:]
        squares = np.einsum("nd,nd->n", x, x)
        decoder = _unit(rng.standard_normal((self.n_features, x.shape[1])).astype(np.float32))
        weights = np.concatenate([decoder, decoder])
        optimizer = _Adam(self.learning_rate, np.zeros_like(weights), np.zeros_like(weights))
        silent = np.zeros(self.n_features, dtype=np.int64)
        threshold = _RunningMean()
        best: tuple[float, Floats, float] = (np.inf, weights.copy(), 0.0)
        history: list[float] = []
        levels = _levels(self.prefixes or _quarter_and_all(self.n_features))
        buffer = np.empty((self.batch_size, x.shape[1]), np.float32)
        for epoch in range(self.epochs):
            shuffled, losses = rng.permutation(rows), []
            for start in range(0, len(rows), self.batch_size):
                chosen = shuffled[start : start + self.batch_size]
                batch = np.take(x, chosen, axis=0, out=buffer[: len(chosen)], mode="clip")  # anything else is buffered
                square = float(squares[chosen].sum())
                if not square:
                    continue
                dead = np.flatnonzero(silent >= _SILENT_STEPS)
                found = losses_and_gradient(weights, batch, square, n_active=self.n_active, levels=levels, dead=dead)
                _descended(weights, found.gradient, optimizer)
                threshold.add(found.threshold)
                silent = np.where(found.used, 0, silent + 1)
                losses.append(found.loss)
            self._take(weights, threshold.value)
            history.append(self._unexplained(aside) if n_aside else float(np.mean(losses)))
            if not n_aside or history[-1] < best[0]:
                best = (history[-1], weights.copy(), threshold.value)
            elif epoch + 1 >= _FEWEST_EPOCHS and epoch - int(np.argmin(history)) >= self.patience:
                break
        self._take(*best[1:])
        self.history_ = tuple(history)
        return self

    def activations(self, differences: ArrayLike) -> Floats:
        """How much each direction has to do with each difference, signed, mostly zero, float32[pairs, features].

        Raises:
            NotFittedError: nothing was learnt yet.
            DataError: the differences have another number of dimensions, or one is not finite.
        """
        return self._activations(self._scaled(differences))

    def rebuilt(self, activations: ArrayLike) -> Floats:
        """Differences as the directions have them, in the unit they came in, float32[pairs, dim]."""
        self._require_fitted()
        return np.asarray(np.asarray(activations, np.float32) @ self.decoder_ * self.scale_)

    def unexplained(self, differences: ArrayLike) -> float:
        """Share of the scaled differences' squared length that is left over, 0 the best; Raises as `activations`."""
        return self._unexplained(self._scaled(differences))

    def _scaled(self, differences: ArrayLike) -> Floats:
        self._require_fitted()
        x = _finite(differences)
        if x.shape[1] != len(self.scale_):
            raise DataError(f"The differences have {x.shape[1]} dimensions, those learnt from {len(self.scale_)}.")
        return np.asarray(x / self.scale_)

    def _activations(self, x: Floats) -> Floats:
        found = x @ self.encoder_.T
        found[np.abs(found) <= self.threshold_] = 0
        return np.asarray(found)

    def _unexplained(self, x: Floats) -> float:
        left = x - self._activations(x) @ self.decoder_
        return float(np.vdot(left, left) / np.vdot(x, x))

    def save(self, folder: Path) -> None:
        """Write what was learnt as one file of safetensors, with the settings as JSON in its head."""
        self._require_fitted()
        about = {"settings": self._settings(), "threshold": self.threshold_, "history": self.history_}
        with whole_file(folder / _FILE) as partial:
            arrays = {"encoder": self.encoder_, "decoder": self.decoder_, "scale": self.scale_}
            save_file(arrays, partial, {_ABOUT: json.dumps(about)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote.

        Raises:
            DataError: the folder holds no such file.
        """
        try:
            with safe_open(folder / _FILE, framework="numpy") as file:
                about = json.loads(file.metadata()[_ABOUT])
                weights = np.concatenate([file.get_tensor("encoder"), file.get_tensor("decoder")])
                scale = file.get_tensor("scale")
            model = cls(**about["settings"])
            model.scale_ = scale
            model._take(weights, float(about["threshold"]))
            model.history_ = tuple(about["history"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DataError(f"{folder} holds no sparse autoencoder that can be read ({error}).") from error
        return model

    def _require_fitted(self) -> None:
        if not hasattr(self, "encoder_"):
            raise NotFittedError("This SparseAutoencoder has learnt nothing yet: call fit(differences) first.")

    def _settings(self) -> Mapping[str, Any]:
        names = ("n_features", "n_active", "prefixes", "batch_size", "learning_rate", "epochs", "patience", "seed")
        return {name: getattr(self, name) for name in names}

    def _take(self, weights: Floats, threshold: float) -> None:
        self.encoder_, self.decoder_ = weights[: self.n_features].copy(), weights[self.n_features :].copy()
        self.threshold_ = threshold

    def _checked(self, differences: ArrayLike) -> Floats:
        x = _finite(differences)
        if len(x) < _ROWS_PER_FEATURE * self.n_features:
            raise DataError(
                f"{len(x)} pairs are too few for {self.n_features} directions: ten for each are needed at least. Bring "
                f"more pairs, or set n_features to {max(1, len(x) // _ROWS_PER_FEATURE)} or less."
            )
        if self.n_features > x.shape[1]:
            raise DataError(
                f"{self.n_features} directions in {x.shape[1]} dimensions: set n_features to {x.shape[1]} or less, or "
                "take a richer encoder."
            )
        if not x.any():
            raise DataError(f"All {len(x)} differences are zero: the encoder sees no difference between any responses.")
        return x


class _RunningMean:
    """A mean that forgets, free of where it started (as Adam's are)."""

    def __init__(self) -> None:
        self.sum, self.weight = 0.0, 0.0

    def add(self, value: float) -> None:
        self.sum += _THRESHOLD_RATE * (value - self.sum)
        self.weight += _THRESHOLD_RATE * (1 - self.weight)

    @property
    def value(self) -> float:
        return self.sum / self.weight if self.weight else 0.0


def _descended(weights: Floats, gradient: Floats, optimizer: _Adam) -> None:
    """One step down, in place; rows of the decoder keep their length of one, so what would stretch them is no slope."""
    n_features = len(weights) // 2
    decoder, slope = weights[n_features:], gradient[n_features:]
    slope -= np.einsum("md,md->m", slope, decoder)[:, None] * decoder
    length = float(np.sqrt(np.vdot(gradient, gradient)))
    if length > _CLIP:
        gradient *= _CLIP / length
    optimizer.move(weights, gradient)
    decoder /= np.sqrt(np.einsum("md,md->m", decoder, decoder))[:, None]


def _levels(prefixes: Sequence[int]) -> Floats:
    """Share of the prefixes that hold both of two directions, [features, features]."""
    held = np.arange(prefixes[-1]) < np.asarray(prefixes)[:, None]
    return np.asarray((held.T.astype(np.float32) @ held) / len(prefixes), np.float32)


def _quarter_and_all(n_features: int) -> tuple[int, ...]:
    """The authors' (8, 32) for 32 directions."""
    return tuple(sorted({max(1, n_features // 4), n_features}))


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _finite(differences: ArrayLike) -> Floats:
    x = np.ascontiguousarray(differences, dtype=np.float32)
    if x.ndim != 2:
        raise DataError(f"differences has shape {x.shape}; it must be [pairs, dim].")
    # One pass in the common case; the sum of squares of huge numbers may overflow without one of them being bad.
    bad = np.zeros(len(x), dtype=bool) if np.isfinite(np.vdot(x, x)) else ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise DataError(
            f"{bad.sum()} of {len(x)} differences hold NaN or infinite numbers, the first in row {bad.argmax()}; leave "
            "such pairs out."
        )
    return x
