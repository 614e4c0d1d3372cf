"""World B of robust preference selection: a real language model that is asked for a trade-off in words.

The policy is the embedded chat model, SmolLM2-135M-Instruct through llama.cpp, sampled at temperature 0.8. Prompts name
four things to write about. The user is simulated and wants two attributes that are measured on the text, so that the
truth is known: coverage (share of the four things that the answer mentions) and brevity (minus its words). A direction
reaches the policy as "Answer in N words.", N falling from 16 (coverage only) to 2 (brevity only). Directions lie in the
cone of 0 to 90 degrees from coverage; k = 5, neighbours within 30 degrees; both arms share prompts, seeds and cost.

What is chosen and what is reported are one exact measure, so there is no error of a reward model to be exploited and no
referee is needed. The model is used as it comes, as the paper uses its SFT model, and not
tuned on a cone of directions. It has therefore no known trained directions, "far" is by name only, and the rates here
are reported and decide nothing. 3 targets, and 2 prompts in each of 16 seeds, are what ten minutes hold: the interval
is about 9 points wide to either side, so that only a large effect would show.

The wording was chosen by hand among nine on seed 100 (40 answers to each direction), before any win rate was seen: it
moved both attributes the right way, though coverage by no more than two standard errors. The notes print what the model
did on the reported seeds, where coverage does not follow; a policy that ignores directions wins half. The
standardisation was measured on seeds 100 to 103.

Source:
    Mao, Shi, Gu and Wei (2025), Robust Preference Alignment via Directional Neighborhood Consensus.

>>> attributes(["Write about a fox, a bell, a boat and a clock."], ["Two foxes wound the clock."]).tolist()
[[0.5, -5.0]]
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.align.rejection_sampling import angle as towards
from penchant.cache import RowCache
from penchant.chat import Cached, ChatModel, LlamaChat
from penchant.errors import MissingExtraError
from penchant.preference.measures import Standardisation
from penchant.statistics import Interval, nested_bootstrap
from penchant.steer.neighbourhood import Cone, Neighbourhood, Policy

Array = NDArray[np.float64]
ATTRIBUTES = ("coverage", "brevity")
TARGETS = (5.0, 50.0, 65.0)  # degrees from coverage towards brevity
FAR = (50.0, 65.0)
ALLOWED = Cone((1.0, 1.0), 45.0)  # beyond it a user would want fewer things mentioned, or more words
K, MAX_ANGLE = 5, 30.0
N_SEEDS, N_PROMPTS = 16, 2
_TEMPERATURE, _MAX_NEW_TOKENS = 0.8, 24
_MOST_WORDS, _FEWEST_WORDS = 16, 2
_THINGS = (
    "baker bell bicycle boat bridge candle castle clock cloud doctor fox garden guitar horse kettle ladder lamp "
    "lighthouse market mirror monkey mountain painter piano pirate rabbit river robot rocket ship spider storm teacher "
    "train violin whale window"
)
# What `calibrated` gave on seeds 100 to 103, to two figures.
STANDARDISATION = Standardisation(np.array([0.58, -12.6]), np.array([0.42, 5.5]))


def questions(seed: int, n: int = N_PROMPTS) -> list[str]:
    """Prompts of one seed, each about four things."""
    rng = np.random.default_rng([20, seed, 1])
    drawn = [rng.choice(_THINGS.split(), 4, replace=False) for _ in range(n)]
    return [f"Write about a {a}, a {b}, a {c} and a {d}." for a, b, c, d in drawn]


def wish(direction: Array) -> str:
    """A direction (coverage, brevity) in words, [2].

    >>> wish(np.array([1.0, 0.0])), wish(np.array([0.0, 1.0]))
    ('Answer in 16 words.', 'Answer in 2 words.')
    """
    return f"Answer in {max(_FEWEST_WORDS, round(_MOST_WORDS * float(direction[0])))} words."


def attributes(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """Coverage in [0, 1] and brevity in negative words of each response, [n, 2]."""
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        things = re.findall(r"\ba (\w+)", prompt)
        named = [re.search(rf"\b{thing}(?:e?s)?\b", response, re.IGNORECASE) is not None for thing in things]
        rows.append([float(np.mean(named)), -float(len(response.split()))])
    return np.array(rows).reshape(-1, 2)


class Told:
    """A chat model whose condition follows the prompt in the user's turn.

    In the system text a number of words moved its length less (seed 100).
    """

    def __init__(self, chat: ChatModel):
        self.chat = chat

    def sample(
        self,
        prompts: Sequence[str],
        n: int = 1,
        *,
        condition: str | None = None,
        temperature: float = 0.7,
        max_new_tokens: int = 64,
        seed: int = 0,
    ) -> list[list[str]]:
        """Draw n responses to each prompt."""
        return [
            self.chat.complete(
                # Without a system text the model's template brings a longer one, which takes time to read.
                [{"role": "system", "content": "You write."}, {"role": "user", "content": f"{prompt} {condition}"}],
                n=n,
                temperature=temperature,
                max_tokens=max_new_tokens,
                seed=seed,
            )
            for prompt in prompts
        ]


@lru_cache(maxsize=1)
def small_chat() -> Told:
    """The embedded model, which remembers its answers, so that a killed run goes on.

    Raises:
        MissingExtraError: the model or its engine is not installed.
    """
    return Told(Cached(LlamaChat(context=2048), RowCache()))


def calibrated(policy: Policy, seeds: Sequence[int] = (100, 101, 102, 103)) -> Standardisation:
    """Mean and spread of the attributes over answers to 5 prompts of each seed at seven directions in the cone."""
    rows = []
    for seed in seeds:
        prompts = questions(seed, 5)
        for degrees in np.linspace(0, 90, 7):
            settings: dict[str, Any] = {"temperature": _TEMPERATURE, "max_new_tokens": _MAX_NEW_TOKENS, "seed": seed}
            answers = policy.sample(prompts, 1, condition=wish(towards(degrees)), **settings)
            rows.append(attributes(prompts, [answer[0] for answer in answers]))
    return Standardisation.of(np.concatenate(rows), ATTRIBUTES)


def win(ours: float, baseline: float) -> float:
    """1, 0, or one half for a tie; two empty answers (-inf) tie.

    >>> win(2.0, 1.0), win(1.0, 2.0), win(-np.inf, -np.inf)
    (1.0, 0.0, 0.5)
    """
    return ((ours > baseline) + (ours >= baseline)) / 2


def compare(policy: Policy, seed: int) -> dict[str, dict[str, list[float]]]:
    """Both arms on the prompts of one seed.

    Returns:
        Target in degrees -> one number a prompt: `wins` (ties half), `gains` in score (standard deviations; prompts
        whose answers are all empty in an arm left out), `offsets` of the chosen neighbours in degrees, and the mean
        `coverage` and `words` of all non-empty answers at the target itself.
    """
    method = Neighbourhood(
        policy,
        attributes,
        attributes=ATTRIBUTES,
        condition=wish,
        k=K,
        max_angle=MAX_ANGLE,
        cone=ALLOWED,
        standardisation=STANDARDISATION,
        temperature=_TEMPERATURE,
        max_new_tokens=_MAX_NEW_TOKENS,
    )
    found: dict[str, dict[str, list[float]]] = {}
    for target in TARGETS:
        cell: dict[str, list[float]] = {"wins": [], "gains": [], "offsets": [], "coverage": [], "words": []}
        for number, prompt in enumerate(questions(seed)):
            # One call a prompt, so that each has neighbours of its own.
            [ours], [base] = (
                arm([prompt], towards(target), seed=N_PROMPTS * seed + number)
                for arm in (method.select, method.best_of_k)
            )
            cell["wins"].append(win(ours.score, base.score))
            if np.isfinite([ours.score, base.score]).all():
                cell["gains"].append(ours.score - base.score)
            cell["offsets"].append(ours.candidates[ours.chosen].angle)
            said = np.array([one.attributes for one in base.candidates if np.isfinite(one.score)]).reshape(-1, 2)
            if len(said):
                cell["coverage"].append(float(said[:, 0].mean()))
                cell["words"].append(-float(said[:, 1].mean()))
        found[f"{target:g}"] = cell
    return found


def run(seed: int) -> dict[str, Any]:
    """One seed of world B, or why it was skipped: `{"targets": ...}` or `{"skipped": the sentence}`."""
    try:
        return {"targets": compare(small_chat(), seed)}
    except MissingExtraError as error:
        return {"skipped": str(error)}


def win_rate(cells: Sequence[dict[str, Any]], targets: Sequence[float]) -> Interval:
    """Share of wins at these targets, averaged over them; interval over prompts within seeds.

    Args:
        cells: what `compare` gave for at least two seeds.
        targets: degrees.
    """
    wins = [np.mean([cell[f"{target:g}"]["wins"] for target in targets], axis=0) for cell in cells]
    sizes = [len(one) for one in wins]
    return nested_bootstrap(
        np.concatenate(wins),
        seeds=np.repeat(np.arange(len(wins)), sizes),
        clusters=np.concatenate([np.arange(size) for size in sizes]),
    )


def _mean(cells: Sequence[dict[str, Any]], targets: Sequence[float], name: str) -> float:
    return float(np.mean([value for cell in cells for target in targets for value in cell[f"{target:g}"][name]]))


def notes(worlds: Sequence[dict[str, Any]]) -> list[str]:
    """What world B says, in sentences.

    Args:
        worlds: what `run` gave for each seed; none where the scale leaves world B out.
    """
    if not worlds:
        return ["a simulated policy only: no language model was part of this run"]
    cells = [world["targets"] for world in worlds if "targets" in world]
    skipped = [world["skipped"] for world in worlds if "skipped" in world]
    found = [f"world B was skipped in {len(skipped)} of {len(worlds)} seeds: {skipped[0]}"] if skipped else []
    if len(cells) < 2:
        return found
    n = sum(len(cell[f"{FAR[0]:g}"]["wins"]) for cell in cells)
    far, rates = win_rate(cells, FAR), [(target, win_rate(cells, [target])) for target in TARGETS]
    return [
        *found,
        f"world B, reported only: SmolLM2-135M asked in words, simulated user, {n} prompts in {len(cells)} seeds: "
        f"win rate over best of {K} at 50 and 65 degrees {_percent(far)}, mean gain {_mean(cells, FAR, 'gains'):+.2f} "
        "standard deviations",
        "world B by target: " + ", ".join(f"{target:g} deg {_percent(rate)}" for target, rate in rates),
        "world B, asked at the target itself (a policy that ignores what is asked wins half): "
        + ", ".join(
            f"{target:g} deg mentions {100 * _mean(cells, [target], 'coverage'):.0f} % of the things in "
            f"{_mean(cells, [target], 'words'):.1f} words"
            for target in TARGETS
        ),
        "world B, mean angle between the target and the chosen neighbour: "
        + ", ".join(f"{target:g} deg {_mean(cells, [target], 'offsets'):.0f}" for target in TARGETS),
    ]


def _percent(rate: Interval) -> str:
    return f"{100 * rate.estimate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
