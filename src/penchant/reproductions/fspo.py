r"""Few-shot preference optimisation: does a policy that reads a new person's labelled pairs act as if tuned to them?

A simulated world. A response has 4 attributes of 3 values each; a question says which 2 of them matter; a person is a
utility N(0, 1) for each of the 12 values, and prefers by Bradley-Terry at temperature 0.3. Utilities are as often
negative as positive, so that what the population prefers decides nothing. The policy is a transformer of one layer: it
reads each response of a shot as one token, the sum of its values, and speaks value by value, so that log pi(y | shots,
x) is exact. Shots are a set and have no positions; they are computed once for all of a window's targets.

Arms, all measured on 200 people and 2 questions never trained on: the population (IPO without shots), few-shot
supervised fine-tuning (where all others start), FSPO with DPO and with IPO, an oracle that is told the utilities, and
FSPO-IPO with 1 and 8 shots. Two ablations of the data with as many comparisons: of 10 people only (no diversity), and
with every pair labelled by somebody else (no consistency of a person). As a ceiling, not an arm, stands the exact
reader: logistic regression under the world's own prior on the very shots. Four pairs say little of twelve utilities,
and one pair in nine is alike in all that matters, a coin for every arm; so the ceiling is low.

Settings were chosen on seeds from 1000 on. The world is small, to let a policy learn to read shots in a
minute of one core: 4 attributes of 3 values (with 6 of 4, too, it learns, but many times slower: most of what it sees
then does not matter), one token a response, one layer, and several targets that share a window's shots.

Source:
    Singh et al. (2025), FSPO: Few-Shot Preference Optimization of Synthetic Preference Data Elicits Effective
    Personalization to Real Users, arXiv 2502.19312.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from penchant.preference.newton import newton
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap

if TYPE_CHECKING:
    from torch import Tensor

CLAIM = (
    "A policy trained over many people to read a person's four labelled pairs ranks pairs of new people better than "
    "one trained on everybody alike and than few-shot supervised fine-tuning, and better the more pairs it reads; with "
    "few or inconsistent people to train on it transfers less."
)
METRIC = "share of pairs ranked as the person would, people and questions unseen, 4 shots"
SEEDS = {"quick": 2, "full": 4}

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
N_ATTRIBUTES, N_VALUES, N_RELEVANT, TEMPERATURE = 4, 3, 2, 0.3
N_UTILITIES = N_ATTRIBUTES * N_VALUES
N_TEST_PEOPLE, N_ROWS, N_TARGETS = 200, 40, 16
_QUESTIONS = tuple(itertools.combinations(range(N_ATTRIBUTES), N_RELEVANT))
_N_UNSEEN_QUESTIONS = 2


@dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        n_people: to train on.
        warm_steps: of supervised fine-tuning.
        steps: of preference optimisation.
    """

    n_people: int
    warm_steps: int
    steps: int


SCALES = {"quick": Size(800, 50, 300), "full": Size(800, 100, 700)}
_BATCH, _WIDTH, _LAYERS, _HEADS = 32, 32, 1, 4
_RATE, _BETA = 3e-3, 0.2


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs of people.

    Attributes:
        asked: which attributes matter, bool[people, rows, attributes].
        chosen: values of the preferred response, int[people, rows, attributes].
        rejected: of the other one.
        utilities: of each value, [people, attributes, values].
    """

    asked: NDArray[np.bool_]
    chosen: Ints
    rejected: Ints
    utilities: Array

    def is_better(self) -> NDArray[np.bool_]:
        """Whether the chosen response really is the better one, bool[people, rows]."""
        utilities = self.utilities[:, None]
        return _worth(utilities, self.chosen, self.asked) > _worth(utilities, self.rejected, self.asked)

    def rows(self, which: slice) -> "Pairs":
        """Some rows of everybody."""
        return Pairs(self.asked[:, which], self.chosen[:, which], self.rejected[:, which], self.utilities)

    def and_then(self, more: "Pairs") -> "Pairs":
        """The same people's rows, and behind them more of theirs."""
        asked, chosen, rejected = (
            np.concatenate([getattr(one, name) for one in (self, more)], axis=1)
            for name in ("asked", "chosen", "rejected")
        )
        return Pairs(asked, chosen, rejected, self.utilities)

    def difference(self) -> Array:
        """Which values the chosen response has more than the other, among those that matter, [people, rows, 12]."""
        chosen, rejected = (np.eye(N_VALUES)[side] for side in (self.chosen, self.rejected))
        return ((chosen - rejected) * self.asked[..., None]).reshape(*self.asked.shape[:2], N_UTILITIES)


def drawn(
    utilities: Array, n_rows: int, questions: Ints, rng: np.random.Generator, *, consistent: bool = True
) -> Pairs:
    """Labelled pairs of people.

    Args:
        utilities: of each value, [people, attributes, values].
        n_rows: pairs of each.
        questions: numbers of those that may be asked.
        rng: everything is drawn from it.
        consistent: whether a person's labels follow the person's utilities, rather than somebody else's every time.
    """
    matters = np.zeros((len(_QUESTIONS), N_ATTRIBUTES), dtype=bool)
    np.put_along_axis(matters, np.array(_QUESTIONS), True, axis=1)
    shape = (len(utilities), n_rows)
    asked = matters[rng.choice(questions, shape)]
    first, second = rng.integers(N_VALUES, size=(2, *shape, N_ATTRIBUTES))
    deciding = utilities[:, None] if consistent else rng.standard_normal((*shape, N_ATTRIBUTES, N_VALUES))
    ahead = _worth(deciding, first, asked) - _worth(deciding, second, asked)
    wins = (rng.random(shape) < expit(ahead / TEMPERATURE))[..., None]
    return Pairs(asked, np.where(wins, first, second), np.where(wins, second, first), utilities)


def _worth(utilities: Array, side: Ints, asked: NDArray[np.bool_]) -> Array:
    """Utility of each response, [people, rows]; utilities are [people, rows or 1, attributes, values]."""
    of_values = np.take_along_axis(utilities, side[..., None], axis=-1)[..., 0]
    return np.asarray((of_values * asked).sum(axis=-1))


def new_utilities(n_people: int, rng: np.random.Generator) -> Array:
    """Of people who have nothing in common, [people, attributes, values]."""
    return rng.standard_normal((n_people, N_ATTRIBUTES, N_VALUES))


def exact_reader(shown: Pairs, targets: Pairs) -> Array:
    """What could be known: whether the likeliest utilities of each person, given the shots, rank the targets right.

    Where they do not tell, half; [people, targets].
    """
    found = []
    for shots, asked in zip(shown.difference(), targets.difference(), strict=True):
        found.append(np.sign((asked @ newton(shots / TEMPERATURE, np.ones(len(shots)), l2=1.0).weights).round(9)))
    side = np.where(targets.is_better(), 1, -1)
    return np.asarray((1 + side * np.stack(found)) / 2)


# The policy ---------------------------------------------------------------------------------------------------------


def _policy(seed: int) -> Any:
    import torch
    from torch import nn

    class Policy(nn.Module):
        """Shots and a question to the log-probability of every value of every attribute of the answer."""

        def __init__(self) -> None:
            super().__init__()
            # A value is one token in a preferred response, another in the other, and others where it does not matter.
            self.value = nn.Parameter(0.3 * torch.randn(2, 2, N_ATTRIBUTES, N_VALUES, _WIDTH))
            self.question = nn.Parameter(0.3 * torch.randn(N_ATTRIBUTES, _WIDTH))
            self.told = nn.Linear(N_UTILITIES, _WIDTH)
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    _WIDTH, _HEADS, 2 * _WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(_LAYERS)
            )
            self.spoken = nn.Linear(_WIDTH, N_UTILITIES)

        def forward(self, batch: "Batch") -> "Tensor":
            """[windows, targets, attributes, values]."""
            tokens = [batch.question @ self.question]
            if batch.utilities is not None:
                tokens.insert(0, self.told(batch.utilities)[:, None])
            for side, value in zip((batch.preferred, batch.dispreferred), self.value, strict=True):
                tokens.insert(0, torch.einsum("wnavr,ravd->wnd", side, value))
            states = torch.cat(tokens, dim=1)
            n_before = states.shape[1] - batch.question.shape[1]
            hidden = _hidden(n_before, states.shape[1])
            for block in self.blocks:
                states = block(states, src_mask=hidden)
            logits = self.spoken(states[:, n_before:]).unflatten(-1, (N_ATTRIBUTES, N_VALUES))
            found: Tensor = logits.log_softmax(dim=-1)
            return found

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Policy()


def _hidden(n_before: int, n: int) -> "Tensor":
    """Who is not seen, bool[n, n]: shots see all shots, a target sees the shots and itself, nobody another target."""
    import torch

    mask = torch.ones(n, n, dtype=torch.bool)
    mask[:, :n_before] = False
    mask.fill_diagonal_(False)
    return mask


@dataclass(frozen=True)
class Batch:
    """Windows as tensors: one-hot values beside whether they matter, and questions.

    Attributes:
        preferred: of the shots, [windows, shots, attributes, values, 2].
        dispreferred: likewise.
        question: of the targets, [windows, targets, attributes].
        chosen: values, int[windows, targets, attributes, 1].
        rejected: likewise.
        utilities: of the person, for the oracle, [windows, 12].
    """

    preferred: "Tensor"
    dispreferred: "Tensor"
    question: "Tensor"
    chosen: "Tensor"
    rejected: "Tensor"
    utilities: "Tensor | None"


def _batch(pairs: Pairs, people: Ints, shots: Ints, targets: Ints, *, told: bool) -> Batch:
    import torch

    rows = people[:, None]

    def one_hot(side: Ints) -> "Tensor":
        values = np.eye(N_VALUES, dtype=np.float32)[side[rows, shots]]
        matters = pairs.asked[rows, shots][..., None]
        return torch.from_numpy(np.stack([values * matters, values * ~matters], axis=-1))

    return Batch(
        one_hot(pairs.chosen),
        one_hot(pairs.rejected),
        torch.from_numpy(pairs.asked[rows, targets].astype(np.float32)),
        torch.from_numpy(pairs.chosen[rows, targets][..., None]),
        torch.from_numpy(pairs.rejected[rows, targets][..., None]),
        torch.from_numpy(pairs.utilities[people].reshape(-1, N_UTILITIES).astype(np.float32)) if told else None,
    )


def _log_probabilities(policy: Any, batch: Batch) -> "tuple[Tensor, Tensor]":
    """Of the chosen and of the rejected response of each target, nats, [windows, targets] each."""
    of_values = policy(batch)
    chosen, rejected = (of_values.gather(-1, side)[..., 0].sum(dim=-1) for side in (batch.chosen, batch.rejected))
    return chosen, rejected


@dataclass(frozen=True)
class Data:
    """Windows of n shots, drawn anew for every step.

    Attributes:
        pairs: of the people to train on.
        n_shots: N.
        told: whether utilities stand in the context.
    """

    pairs: Pairs
    n_shots: int
    told: bool = False

    def batches(self, n_steps: int, seed: int) -> list[Batch]:
        """One for each step."""
        rng = np.random.default_rng([9, seed])
        n_people, n_rows = self.pairs.asked.shape[:2]
        found = []
        for _ in range(n_steps):
            people = rng.integers(n_people, size=_BATCH)
            order = rng.random((_BATCH, n_rows)).argpartition(self.n_shots + N_TARGETS, axis=1)
            order = rng.permuted(order[:, : self.n_shots + N_TARGETS], axis=1)
            found.append(_batch(self.pairs, people, order[:, : self.n_shots], order[:, self.n_shots :], told=self.told))
        return found


def _trained(policy: Any, data: Data, n_steps: int, loss: "Callable[[Any, Batch], Tensor]", seed: int) -> Any:
    """The policy after so many steps of a loss."""
    from penchant.preference.descent import descend

    batches = data.batches(n_steps, seed)
    descend(
        lambda rows: loss(policy, batches[int(rows[0])]),
        policy.parameters(),
        n_steps,
        epochs=1,
        learning_rate=_RATE,
        weight_decay=0.01,
        batch_size=1,
        seed=seed,
    )
    return policy


def _imitation(policy: Any, batch: Batch) -> "Tensor":
    from penchant import objectives

    return objectives.nll(_log_probabilities(policy, batch)[0]).mean()


def _preference(objective: str, reference: Any) -> "Callable[[Any, Batch], Tensor]":
    import torch

    from penchant import objectives

    function = {"ipo": objectives.ipo, "dpo": objectives.dpo}[objective]

    def loss(policy: Any, batch: Batch) -> "Tensor":
        with torch.no_grad():
            before = _log_probabilities(reference, batch)
        now = _log_probabilities(policy, batch)
        return function(*(mine - theirs for mine, theirs in zip(now, before, strict=True)), beta=_BETA).mean()

    return loss


# The run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Arms:
    """Everything is trained in the same way and measured on the same unseen people."""

    size: Size
    test: Pairs
    seed: int

    def warm(self, data: Data) -> Any:
        """Few-shot supervised fine-tuning."""
        return _trained(_policy(self.seed), data, self.size.warm_steps, _imitation, self.seed)

    def tuned(self, data: Data, warm: Any, objective: str) -> Any:
        """Preference optimisation from there; the reference is where it starts and reads the same shots."""
        import copy

        policy = copy.deepcopy(warm)
        return _trained(policy, data, self.size.steps, _preference(objective, warm), self.seed + 1)

    def right(self, policy: Any, n_shots: int, *, reference: Any = None, told: bool = False) -> NDArray[np.bool_]:
        """Which targets of unseen people the policy (less its reference) ranks as they do, [people, targets]."""
        import torch

        n_people = len(self.test.asked)
        shots = np.tile(np.arange(n_shots), (n_people, 1))
        targets = np.tile(np.arange(N_ROWS, self.test.asked.shape[1]), (n_people, 1))
        batch = _batch(self.test, np.arange(n_people), shots, targets, told=told)
        with torch.no_grad():
            chosen, rejected = _log_probabilities(policy, batch)
            if reference is not None:
                before = _log_probabilities(reference, batch)
                chosen, rejected = chosen - before[0], rejected - before[1]
        return np.asarray((chosen > rejected).numpy() == self.test.is_better()[:, N_ROWS:])


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """All arms in one world.

    Args:
        seed: of the people, the weights and the order.
        scale: a key of `SCALES`.
        progress: called with a line on what goes on.

    Returns:
        `accuracy`: arm -> share of targets ranked right of each unseen person, [people].
    """
    import torch  # noqa: F401 - before its threads are counted

    from penchant.parts import torch_threads

    with torch_threads(1):
        return _run(seed, SCALES[scale], progress)


def _run(seed: int, size: Size, progress: Callable[[str], None]) -> dict[str, Any]:
    rng = np.random.default_rng([9, seed])
    questions = rng.permutation(len(_QUESTIONS))
    unseen, seen = questions[:_N_UNSEEN_QUESTIONS], questions[_N_UNSEEN_QUESTIONS:]
    everybody = drawn(new_utilities(size.n_people, rng), N_ROWS, seen, rng)
    few = drawn(new_utilities(10, rng), N_ROWS * size.n_people // 10, seen, rng)
    inconsistent = drawn(new_utilities(size.n_people, rng), N_ROWS, seen, rng, consistent=False)
    utilities = new_utilities(N_TEST_PEOPLE, rng)
    test = drawn(utilities, N_ROWS, seen, rng).and_then(drawn(utilities, 2 * N_TARGETS, unseen, rng))
    arms = _Arms(size, test, seed)
    right: dict[str, NDArray[Any]] = {}

    progress("fspo: the population, and the oracle")
    for name, data in (("population IPO", Data(everybody, 0)), ("oracle", Data(everybody, 0, told=True))):
        warm = arms.warm(data)
        right[name] = arms.right(arms.tuned(data, warm, "ipo"), 0, reference=warm, told=data.told)
    progress("fspo: four shots")
    data = Data(everybody, 4)
    warm = arms.warm(data)
    right["few-shot SFT"] = arms.right(warm, 4)
    for objective in ("dpo", "ipo"):
        right[f"FSPO-{objective.upper()}"] = arms.right(arms.tuned(data, warm, objective), 4, reference=warm)
    for name, data in (
        ("FSPO-IPO, 1 shot", Data(everybody, 1)),
        ("FSPO-IPO, 8 shots", Data(everybody, 8)),
        ("FSPO-IPO, 10 people", Data(few, 4)),
        ("FSPO-IPO, inconsistent people", Data(inconsistent, 4)),
    ):
        progress(name)
        warm = arms.warm(data)
        right[name] = arms.right(arms.tuned(data, warm, "ipo"), data.n_shots, reference=warm)
    for n_shots in (1, 4, 8):
        shown, targets = test.rows(slice(0, n_shots)), test.rows(slice(N_ROWS, None))
        right[f"exact reader, {n_shots}"] = exact_reader(shown, targets)
    return {"accuracy": {name: found.mean(axis=1).round(6).tolist() for name, found in right.items()}}


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if FSPO-IPO beats the better of population and SFT, 8 shots beat 1, and both ablations transfer less.

    Args:
        runs: what `run` gave for each seed.
    """
    means = {name: float(np.mean([run["accuracy"][name] for run in runs])) for name in runs[0]["accuracy"]}
    best = max(("population IPO", "few-shot SFT"), key=lambda name: means[name])
    ours = _minus(runs, "FSPO-IPO", best)
    more = _minus(runs, "FSPO-IPO, 8 shots", "FSPO-IPO, 1 shot")
    ablations = {name: _minus(runs, "FSPO-IPO", f"FSPO-IPO, {name}") for name in ("10 people", "inconsistent people")}
    notes = (
        "Accuracy: " + ", ".join(f"{name} {100 * mean:.1f} %" for name, mean in means.items()) + ".",
        f"(a) FSPO-IPO minus {best}, the better of population and few-shot SFT: {_shown(ours)}.",
        f"(b) 8 shots minus 1: {_shown(more)}.",
        *(f"(c) all people minus {name}: {_shown(found)}." for name, found in ablations.items()),
        f"(d) FSPO-IPO minus FSPO-DPO, without claim: {_shown(_minus(runs, 'FSPO-IPO', 'FSPO-DPO'))}.",
        "People, tastes and choices are simulated.",
    )
    holds = all(found.low > 0 for found in (ours, more, *ablations.values()))
    return Verdict(means["FSPO-IPO"], means[best], ours, holds, notes)


def _minus(runs: list[dict[str, Any]], ours: str, other: str) -> Interval:
    """Mean difference over unseen people, seeds resampled, then people."""
    first, second = (np.array([run["accuracy"][name] for run in runs]) for name in (ours, other))
    seeds, people = np.indices(first.shape)
    return nested_bootstrap(first.ravel(), second.ravel(), seeds=seeds.ravel(), clusters=people.ravel())


def _shown(found: Interval) -> str:
    return f"{100 * found.estimate:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Accuracy of every arm, a dot for each seed, and of the exact reader.

    Args:
        runs: what `run` gave for each seed.
    """
    from matplotlib.figure import Figure

    names = list(runs[0]["accuracy"])
    drawing = Figure(figsize=(7, 4.5))
    axes = drawing.subplots()
    for place, name in enumerate(reversed(names)):
        values = [100 * float(np.mean(run["accuracy"][name])) for run in runs]
        axes.barh(
            place, np.mean(values), color="0.8" if name.startswith(("exact", "oracle")) else "tab:blue", alpha=0.6
        )
        axes.plot(values, [place] * len(values), "k.", markersize=4)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.axvline(50, color="k", linewidth=0.8)
    axes.set_xlim(45, 100)
    axes.set_xlabel("pairs of unseen people on unseen questions ranked right, %")
    return drawing
