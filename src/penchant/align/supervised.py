"""Supervised fine-tuning: make good responses likely, optionally under a condition that says what made them good.

The loss is on response tokens only: minus the sum over a response's tokens of log pi(token | prompt, condition, tokens
before), averaged over rows (Wang et al. 2024, "Arithmetic control of LLMs"); without a condition it is plain SFT. All
answers of one conversation are one example, read in one pass.

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
        per_token: average over the tokens of an example instead of summing, so that long ones weigh no more.
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
            found = [_answers(messages_of(text)) for text in records.table["messages"].to_pylist()]
            answered = [example for example in found if example["responses"]]
            if len(answered) < len(found):
                self.dropped_ = {"no answer of the assistant in it": len(found) - len(answered)}
            return answered
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
        """Negative log-likelihood of each example, nats, [examples].

        Args:
            log_probabilities: of every response token under the policy.
            batch: with `example`.
        """
        total = objectives.nll(_per_example(log_probabilities.sums(), batch))
        return total / _per_example(log_probabilities.lengths(), batch) if self.per_token else total

    def metrics(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> dict[str, Tensor]:
        """Nats per token of each example, [examples]."""
        total = -_per_example(log_probabilities.sums(), batch)
        return {"nll_per_token": total / _per_example(log_probabilities.lengths(), batch)}


def _per_example(values: Tensor, batch: Batch) -> Tensor:
    """Sums over the responses of each example, [examples]."""
    example: Tensor = batch["example"]
    return values.new_zeros(int(example[-1]) + 1).index_add(0, example, values)


def _answers(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Each answer of the assistant after all that was said before it; the first thing said is never one."""
    places = [i for i, message in enumerate(messages) if i > 0 and message["role"] == "assistant"]
    first = places[0] if places else len(messages)
    return {
        "prompt": canonical_json(messages[:first]),
        "responses": [canonical_json(messages[first : place + 1]) for place in places],
        "given": [place - first for place in places],
        "form": "messages",
    }
