"""Supervised fine-tuning: make good responses likely, optionally under a condition that says what made them good.

The loss is on response tokens only: minus the sum over a response's tokens of log pi(token | prompt, condition, tokens
before), averaged over rows (Wang et al. 2024, "Arithmetic control of LLMs"); without a condition it is plain SFT.

>>> Supervised().examples([{"prompt": "2 + 2?", "response": "4", "condition": "Be brief."}])
[{'prompt': '2 + 2?', 'responses': ['4'], 'condition': 'Be brief.', 'form': None}]
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from penchant import objectives
from penchant.align.batches import Batch
from penchant.errors import DataError
from penchant.policies.language import LanguagePolicy
from penchant.policies.sequences import TokenLogProbabilities
from penchant.records import Comparisons, Conversations, Rankings, Ratings, canonical_json
from penchant.turns import messages_of


class Supervised:
    """Trains a policy on responses worth imitating.

    Args:
        per_token: average over the tokens of a response instead of summing, so that long responses weigh no more.
        minimum: of ratings, the lowest score worth imitating.
    """

    trains = LanguagePolicy
    reads = (Conversations, Comparisons, Rankings, Ratings)
    needs_reference = False

    def __init__(self, *, per_token: bool = False, minimum: float | None = None):
        self.per_token, self.minimum = per_token, minimum

    def examples(
        self, records: Comparisons | Rankings | Ratings | Conversations | Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """What each kind of record shows of good answers.

        The chosen response of a comparison, the first of a ranking, each rated response, every turn of the assistant in
        a conversation (what a critique model learns from is of this kind), or plain rows.

        Args:
            records: records, or mappings with `prompt`, `response` and optionally `condition` and `form`.

        Raises:
            DataError: messages cannot be read, or a mapping lacks `prompt` or `response`.
        """
        self.dropped_: dict[str, int] = {}
        if isinstance(records, Comparisons):
            rows = [
                {**row, "response": row["chosen"], "condition": row["context"]} for row in records.table.to_pylist()
            ]
        elif isinstance(records, Rankings):
            rows = [
                {**row, "response": row["responses"][0], "condition": row["context"]}
                for row in records.table.to_pylist()
            ]
        elif isinstance(records, Ratings):
            rated = records.table.to_pylist()
            rows = [row for row in rated if self.minimum is None or row["score"] >= self.minimum]
            if len(rows) < len(rated):
                self.dropped_ = {"score below the minimum": len(rated) - len(rows)}
        elif isinstance(records, Conversations):
            turns = [_turns(messages_of(text)) for text in records.table["messages"].to_pylist()]
            rows = [turn for of_conversation in turns for turn in of_conversation]
            if not all(turns):
                self.dropped_ = {"no answer of the assistant in it": sum(not of_one for of_one in turns)}
        else:
            rows = [dict(row) for row in records]
        for number, row in enumerate(rows):
            if not {"prompt", "response"} <= row.keys():
                raise DataError(
                    f"Row {number} of {len(rows)} has the keys {sorted(row)}; it needs `prompt` and `response`."
                )
        return [
            {
                "prompt": row["prompt"],
                "responses": [row["response"]],
                "condition": row.get("condition"),
                "form": row.get("form"),
            }
            for row in rows
        ]

    def loss(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> Tensor:
        """Negative log-likelihood of each response, nats, [examples]."""
        return objectives.nll(log_probabilities.means() if self.per_token else log_probabilities.sums())

    def metrics(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> dict[str, Tensor]:
        """Nats per token of each response, [examples]."""
        return {"nll_per_token": -log_probabilities.means()}


def _turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each answer of the assistant after all that was said before it."""
    return [
        {"prompt": canonical_json(messages[:i]), "response": canonical_json([message]), "form": "messages"}
        for i, message in enumerate(messages)
        if i > 0 and message["role"] == "assistant"
    ]
