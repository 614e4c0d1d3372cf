"""The same small language model, steered for each person in four ways, and judged by what the learner never saw.

Every way answers the same held-out prompts for the same people. Ways that choose among samples share their samples, so
they cost the same and differ only in who chose:

- plain: the first sample.
- for all: of n samples, the one that the model of everybody likes best.
- for each: of the same n samples, the one that the person's own model likes best.
- in words: one sample, after the person's learnt wishes were put into the system text.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from penchant.chat import ChatModel
from penchant.errors import DataError
from penchant.evaluate.win_rate import WinRate, paired_win_rate
from penchant.people import People
from penchant.preference import PreferenceModel
from penchant.records import Comparisons
from penchant.steer import BestOfN, InContext

Array = np.ndarray[Any, np.dtype[np.float64]]
Judge = Callable[[str, Sequence[str], Sequence[str]], Array]
"""(user, prompts, responses) -> how much the user really likes each, [n]."""

WAYS = ("plain", "for all", "for each", "in words")


def _bar(progress: bool) -> dict[str, Any]:
    """A bar on terminals only, that goes away when it is full."""
    return {"disable": None if progress else True, "leave": False}


class Spoken:
    """A chat model as a policy that can be sampled under a condition in words.

    Args:
        chat: any chat model.
        progress: whether to show a bar.
    """

    def __init__(self, chat: ChatModel, *, progress: bool = False):
        self.chat, self.progress = chat, progress

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
        """Draw n responses to each prompt; the condition is the system text."""
        system = [{"role": "system", "content": condition}] if condition else []
        return [
            self.chat.complete(
                [*system, {"role": "user", "content": prompt}],
                n=n,
                temperature=temperature,
                max_tokens=max_new_tokens,
                seed=seed,
            )
            for prompt in tqdm(prompts, desc=f"{n} answers to each prompt", **_bar(self.progress))
        ]


@dataclass(frozen=True)
class Steered:
    """One answer.

    Attributes:
        user: for whom.
        prompt: to what.
        way: one of `WAYS`.
        response: the answer.
    """

    user: str
    prompt: str
    way: str
    response: str


def answers(
    policy: Any,
    model: PreferenceModel,
    wishes: Mapping[str, Sequence[str]],
    prompts: Sequence[str],
    *,
    n: int,
    max_new_tokens: int,
    seed: int,
    progress: bool = False,
) -> list[Steered]:
    """Every prompt answered for every person in each of the four ways.

    Args:
        policy: what is steered; it should keep its samples, so that all people choose among the same.
        model: fitted, and adapted to the people.
        wishes: what was learnt of each person, in words.
        prompts: held out: no vote was about them.
        n: samples that `for all` and `for each` choose from.
        max_new_tokens: longest answer.
        seed: of sampling.
        progress: whether to show a bar.
    """
    shared: dict[str, Any] = {"n": n, "temperature": 0.9, "max_new_tokens": max_new_tokens}
    for_all = BestOfN(policy, model.reward, **shared).select(prompts, seed=seed)
    told = InContext(policy)
    found = []
    for user in tqdm(sorted(wishes), desc="people", **_bar(progress)):
        own = BestOfN(policy, partial(model.reward, user=user), **shared).select(prompts, seed=seed)
        words = told.sample(prompts, 1, wishes=wishes[user], temperature=0.9, max_new_tokens=max_new_tokens, seed=seed)
        for prompt, everybody, mine, [spoken] in zip(prompts, for_all, own, words, strict=True):
            texts = (everybody.responses[0], everybody.response, mine.response, spoken)
            found += [Steered(user, prompt, way, text) for way, text in zip(WAYS, texts, strict=True)]
    return found


def win_rates(found: Sequence[Steered], judge: Judge) -> dict[tuple[str, str], tuple[WinRate, dict[str, float]]]:
    """How often one way's answer is liked better than another's, with intervals clustered by person.

    Args:
        found: as from `answers`.
        judge: what people really like; it must not be what chose the answers.

    Returns:
        (way, other way) -> win rate with ties as one half, and the same for each person.
    """
    liked: dict[tuple[str, str, str], float] = {}
    for user in sorted({answer.user for answer in found}):
        own = [answer for answer in found if answer.user == user]
        scores = judge(user, [answer.prompt for answer in own], [answer.response for answer in own])
        for answer, score in zip(own, scores, strict=True):
            liked[answer.user, answer.prompt, answer.way] = float(score)
    keys = sorted({(user, prompt) for user, prompt, _ in liked})
    users = np.array([user for user, _ in keys])
    rates = {}
    for way, other in (("for each", "plain"), ("for each", "for all"), ("for each", "in words"), ("in words", "plain")):
        gap = np.array([liked[user, prompt, way] - liked[user, prompt, other] for user, prompt in keys])
        outcome = (np.sign(gap) + 1) / 2
        by_user = {user: float(outcome[users == user].mean()) for user in np.unique(users).tolist()}
        rates[way, other] = paired_win_rate(outcome, clusters=users), by_user
    return rates


def seconds_per_answer(
    policy: Any, model: PreferenceModel, prompts: Sequence[str], *, n: int, max_new_tokens: int
) -> Array:
    """Wall-clock seconds of one steered answer (n samples, and choosing), measured now, for each prompt."""
    times = []
    for number, prompt in enumerate(prompts):
        begin = time.perf_counter()
        chooser = BestOfN(policy, model.reward, n=n, temperature=0.9, max_new_tokens=max_new_tokens)
        chooser.select([prompt], seed=10_000 + number)
        times.append(time.perf_counter() - begin)
    return np.array(times)


def votes(
    people: People,
    prompts: Sequence[str],
    pools: Sequence[Sequence[str]],
    features: Callable[[Sequence[str]], Array],
    *,
    n_each: int,
    seed: int,
) -> Comparisons:
    """What simulated people say when they are shown pairs of answers.

    Args:
        people: whose tastes decide.
        prompts: what was asked.
        pools: answers to each prompt.
        features: standardised features of responses, [n, features], as the tastes weigh them.
        n_each: votes of each person.
        seed: of the pairs and of the people's indecision.

    Raises:
        DataError: no prompt has two different answers.
    """
    rng = np.random.default_rng(seed)
    distinct = [(prompt, sorted(set(pool))) for prompt, pool in zip(prompts, pools, strict=True)]
    usable = [(prompt, pool) for prompt, pool in distinct if len(pool) > 1]
    if not usable:
        raise DataError("No prompt has two different answers to compare; sample more, or at a higher temperature.")
    rows = []
    for index, name in enumerate(people.names):
        for _ in range(n_each):
            prompt, pool = usable[rng.integers(len(usable))]
            first, second = (pool[i] for i in rng.choice(len(pool), size=2, replace=False))
            seen = features([first, second])
            if not people.prefers_first(index, seen[:1], seen[1:], rng)[0]:
                first, second = second, first
            rows.append({"prompt": prompt, "chosen": first, "rejected": second, "user": name})
    return Comparisons.from_rows([{**row, "source": "simulated people"} for row in rows])
