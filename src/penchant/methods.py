"""The one table of methods: plain data that the command line, the documentation and the contract tests read.

>>> method("dpo").room
'align'
"""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from penchant.errors import UnknownNameError, nearest

Room = Literal["collect", "learn", "align", "steer", "evaluate"]


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: what people type.
        title: what it is for, in a line.
        room: where in the flow it stands.
        path: `package.module:Name`, resolved on use.
        source: authors and year.
        reproduction: module of `penchant.reproductions` that tests its paper's claim, if it has one.
    """

    name: str
    title: str
    room: Room
    path: str
    source: str
    reproduction: str | None = None

    @property
    def slug(self) -> str:
        """What `penchant reproduce` calls its claim; empty without one."""
        return (self.reproduction or "").replace("_", "-")

    def resolve(self) -> Any:
        """The class or function itself."""
        return resolve(self.path)


METHODS: tuple[Method, ...] = (
    Method(
        "ultrafeedback",
        "rubric scores and critiques of several models' answers, from any judge",
        "collect",
        "penchant.feedback.critiques:Critiques",
        "Cui et al. 2023",
        "ultrafeedback",
    ),
    Method(
        "bradley_terry",
        "one linear reward for all and, from a handful of comparisons, one for each",
        "learn",
        "penchant.preference.bradley_terry:BradleyTerry",
        "Bradley and Terry 1952",
    ),
    Method(
        "directional",
        "several objectives; a person is a direction among them",
        "learn",
        "penchant.preference.directional:Directional",
        "Wang et al. 2024",
        "dpa",
    ),
    Method(
        "orchestrator",
        "several objectives; how much each counts follows from the prompt, and from the person",
        "learn",
        "penchant.preference.orchestrator:Orchestrator",
        "Liu et al. 2025",
        "pro_orchestrator",
    ),
    Method(
        "strength",
        "a reward learnt after a vote on which pairs to believe: wrong labels turned round, margins by strength",
        "learn",
        "penchant.preference.strength:Strength",
        "Wang et al. 2024",
        "secrets_rm",
    ),
    Method(
        "ideal_point",
        "everybody is a mixture of a few ideal points and prefers what is nearer; newcomers are found at once",
        "learn",
        "penchant.preference.ideal_point:IdealPoint",
        "Chen et al. 2024",
        "pal",
    ),
    Method(
        "mixture",
        "several kinds of people, found in votes that do not say whose they are; a person or a wish finds its kind",
        "learn",
        "penchant.preference.mixture:Mixture",
        "Shen et al. 2025",
        "micro",
    ),
    Method(
        "regret",
        "a reward for control from choices between segments: people compare how far each falls short of the best",
        "learn",
        "penchant.preference.regret:Regret",
        "Knox et al. 2022",
        "regret",
    ),
    Method(
        "reactions",
        "how likely a reply is to be loved, from logs of the few, late and one-sided signs that people leave",
        "learn",
        "penchant.preference.reactions:ReactionRate",
        "Han et al. 2025",
        "rluf",
    ),
    Method(
        "variational",
        "what kind of wants a person has, inferred from a few choices, with how sure that is",
        "learn",
        "penchant.preference.variational:Variational",
        "Poddar et al. 2024",
        "vpl",
    ),
    Method(
        "context",
        "which answer is better in which context, and what a person goes by who does not say",
        "learn",
        "penchant.preference.context:ContextAware",
        "Pitis et al. 2024",
        "context_aware",
    ),
    Method(
        "few_shot",
        "a language model that reads a person's labelled pairs before it judges, trusted as far as it helps",
        "learn",
        "penchant.preference.few_shot:FewShot",
        "Singh et al. 2025",
        "fspo",
    ),
    Method(
        "dpo",
        "train a policy on pairs or ranked lists, with any pairwise objective",
        "align",
        "penchant.align.dpo:DPO",
        "Rafailov et al. 2023",
        "ranking_accuracy",
    ),
    Method(
        "reward_model",
        "a reward for everybody: a language model fine-tuned to say which response people prefer",
        "align",
        "penchant.align.reward_model:RewardModel",
        "Stiennon et al. 2020",
    ),
    Method(
        "supervised",
        "imitate good answers: what was chosen, rated high, or said in a conversation",
        "align",
        "penchant.align.supervised:Supervised",
        "Ouyang et al. 2022",
    ),
    Method(
        "dpa",
        "one policy for every direction of preference, by conditioned rejection sampling",
        "align",
        "penchant.align.rejection_sampling:RejectionSampling",
        "Wang et al. 2024",
        "dpa",
    ),
    Method(
        "fspo",
        "train a policy to act on a person's labelled pairs that it reads, with no training for the person",
        "align",
        "penchant.align.few_shot:FSPO",
        "Singh et al. 2025",
        "fspo",
    ),
    Method(
        "rps",
        "ask neighbouring directions, keep the answer that serves the wanted one best",
        "steer",
        "penchant.steer.neighbourhood:Neighbourhood",
        "Mao et al. 2025",
        "rps",
    ),
    Method(
        "best_of_n",
        "sample n answers, keep the one a person's reward likes best",
        "steer",
        "penchant.steer.best_of_n:BestOfN",
        "Stiennon et al. 2020",
    ),
    Method(
        "in_context",
        "tell the model in words what was learnt",
        "steer",
        "penchant.steer.in_context:InContext",
        "baseline of every personalised result",
    ),
    Method(
        "explain",
        "what a set of comparisons can measure and what its people prefer, in features found without guessing",
        "evaluate",
        "penchant.evaluate.explain:explanation",
        "Movva et al. 2025",
        "wimhf",
    ),
    Method(
        "dissect",
        "which properties of a response move a judge's decisions, and how alike judges are in that",
        "evaluate",
        "penchant.evaluate.dissect:dissection",
        "Li et al. 2024",
        "preference_dissection",
    ),
    Method(
        "discovery",
        "does a model find out what a person wants, and answer accordingly at no cost in correctness?",
        "evaluate",
        "penchant.evaluate.discovery:Discovery",
        "Li et al. 2025",
        "prefdisco",
    ),
    Method(
        "value_drifts",
        "how far and when a model's values move over the checkpoints of its training",
        "evaluate",
        "penchant.evaluate.values:Track",
        "Bhatia et al. 2025",
        "value_drifts",
    ),
    Method(
        "ranking_accuracy",
        "does the policy rank pairs right, and could it at best?",
        "evaluate",
        "penchant.evaluate.ranking_accuracy:audit",
        "Chen et al. 2024",
        "ranking_accuracy",
    ),
    Method(
        "leaderboard",
        "which system is best by votes between two of them, how sure that is, and what it hangs on",
        "evaluate",
        "penchant.evaluate.leaderboard:leaderboard",
        "Kim et al. 2025",
        "music_arena",
    ),
    Method(
        "item_fairness",
        "does every item of a catalogue get its share of what people are shown? All measures, original and corrected",
        "evaluate",
        "penchant.evaluate.item_fairness:measures",
        "Rampisela et al. 2024",
        "item_fairness",
    ),
    Method(
        "judge_bias",
        "how far can a judge be pushed by what should not matter, and what helps?",
        "evaluate",
        "penchant.evaluate.judge_bias:judge_bias",
        "Wang et al. 2025",
        "judging_bias",
    ),
)


def resolve(path: str) -> Any:
    """What a dotted path `package.module:Name` names; a user's own class has the same rights as ours.

    Raises:
        UnknownNameError: the module or the name is not there.
    """
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(f"{path!r} names nothing that can be imported ({error}).") from error


def method(name: str) -> Method:
    """The row of a method.

    Raises:
        UnknownNameError: there is none; the nearest names are given.
    """
    known = {row.name: row for row in METHODS}
    if name not in known:
        raise UnknownNameError(
            f"No method is called {name!r}: {nearest(name, known)} `penchant methods` lists all; your own class works "
            "by its dotted path."
        )
    return known[name]
