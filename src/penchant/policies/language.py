"""A language model that can be steered: it writes responses, and says how likely it finds them.

Any causal language model that transformers can load, with its weights as safetensors or in a GGUF file; by default the
small chat model that comes with penchant. With `lora_rank` only adapters are trained, and the reference is the same
model with its adapters switched off; without, all weights are, and the reference is loaded a second time if asked for.

```python
policy = LanguagePolicy()                                          # SmolLM2-135M-Instruct
policy.sample(["Name a colour."], n=3, condition="Answer in one word.")
policy.log_probabilities(["Name a colour."], [["Red.", "Seven."]])
```
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from penchant.cache import RowCache
from penchant.errors import DataError
from penchant.policies import rendering
from penchant.policies.log_probabilities import kept_sums
from penchant.policies.pretrained import Condition, Forms, Pretrained, evaluating, one_for_each
from penchant.policies.sampling import sample_tokens
from penchant.policies.sequences import Batch, Example, TokenLogProbabilities, can_pack, token_log_probabilities
from penchant.turns import Form


class ResponseLogProbability(NamedTuple):
    """How likely a policy finds a whole response.

    Attributes:
        sum: log-probability of the response, nats.
        n_tokens: its tokens, the end of the turn included.
    """

    sum: float
    n_tokens: int

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.sum / self.n_tokens


class LanguagePolicy(Pretrained):
    """A language model, its tokenizer, and the frozen reference it started from; see `Pretrained` for settings."""

    task = "CAUSAL_LM"

    @property
    def can_pack(self) -> bool:
        """Whether packed batches give this model's exact values."""
        return can_pack(self.model)

    def scores(self, model: Any, batch: Batch) -> TokenLogProbabilities:
        """What an aligner's loss reads of a batch: the log-probability of every response token.

        Args:
            model: `self.model`, or the same inside wrappers for data parallelism.
            batch: from `packed` or `padded`.
        """
        return token_log_probabilities(model, batch)

    def sample(
        self,
        prompts: Sequence[str],
        n: int = 1,
        *,
        condition: Condition = None,
        form: Form = "text",
        temperature: float = 0.7,
        top_p: float = 1.0,
        max_new_tokens: int = 64,
        seed: int = 0,
        rows_at_once: int = 32,
        progress: bool = False,
    ) -> list[list[str]]:
        """Responses to each prompt; a prompt is computed once for all its samples.

        Args:
            prompts: what people wrote, or JSON lists of messages.
            n: responses to each.
            condition: text for the system message, for all prompts or one for each.
            form: "text" or "messages".
            temperature: 0 for the likeliest token each time.
            top_p: share of the probability to sample from, in (0, 1].
            max_new_tokens: a response stops here at the latest.
            seed: same seed, same samples.
            rows_at_once: most responses that grow side by side.
            progress: show a bar.

        Returns:
            For each prompt n texts.

        Raises:
            DataError: a prompt leaves no room for `max_new_tokens`, or messages are malformed.
            SettingsError: a setting is out of its range.
        """
        tokens = [
            rendering.prompt_tokens(self.tokenizer, prompt, condition=wish, form=form)
            for prompt, wish in zip(prompts, one_for_each(condition, len(prompts), "conditions"), strict=True)
        ]
        self._require_room(tokens, max_new_tokens)
        with evaluating(self.model):
            samples = sample_tokens(
                self.model,
                tokens,
                n,
                end_tokens=self.end_tokens,
                pad=self.pad_token,
                temperature=temperature,
                top_p=top_p,
                max_new_tokens=max_new_tokens,
                seed=seed,
                rows_at_once=rows_at_once,
                progress=progress,
            )
        return [[self._text(sample) for sample in of_prompt] for of_prompt in samples]

    def log_probabilities(
        self,
        prompts: Sequence[str],
        responses: Sequence[Sequence[str]],
        *,
        condition: Condition = None,
        form: Forms = "text",
        reference: bool = False,
        batch_tokens: int = 4096,
        cache: RowCache | None = None,
    ) -> list[list[ResponseLogProbability]]:
        """How likely the policy, or its reference, finds each response; without gradients.

        Args:
            prompts: what people wrote, or JSON lists of messages.
            responses: one or more for each prompt.
            condition: text for the system message, for all prompts or one for each.
            form: "text" or "messages", for all prompts or one for each.
            reference: ask the frozen reference.
            batch_tokens: about how many tokens to compute at once.
            cache: keeps what was computed, by the model's weights and the row's tokens.

        Raises:
            DataError: there is not one list of responses for each prompt, or one is empty or too long.
        """
        examples = self.encode_all(prompts, responses, condition=condition, form=form)
        if reference:
            with self.reference() as model:
                return _computed(model, examples, self.pad_token, batch_tokens, cache)
        return _computed(self.model, examples, self.pad_token, batch_tokens, cache)

    def log_ratio(
        self,
        prompts: Sequence[str],
        responses: Sequence[Sequence[str]],
        *,
        condition: Condition = None,
        form: Forms = "text",
        batch_tokens: int = 4096,
        cache: RowCache | None = None,
    ) -> list[list[float]]:
        """Log policy - log reference of each response, nats; arguments and Raises as for `log_probabilities`."""
        policy, reference = (
            self.log_probabilities(
                prompts,
                responses,
                condition=condition,
                form=form,
                reference=frozen,
                batch_tokens=batch_tokens,
                cache=cache if frozen else None,
            )
            for frozen in (False, True)
        )
        return [
            [mine.sum - theirs.sum for mine, theirs in zip(*pair, strict=True)]
            for pair in zip(policy, reference, strict=True)
        ]

    def _text(self, sample: list[int]) -> str:
        if sample[-1] in self.end_tokens:
            sample = sample[:-1]
        return str(self.tokenizer.decode(sample, skip_special_tokens=True))

    def _require_room(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        longest = math.inf if self.max_length is None else self.max_length
        bad = [i for i, prompt in enumerate(prompts) if len(prompt) + max_new_tokens > longest]
        if bad:
            raise DataError(
                f"Prompt {bad[0]} has {len(prompts[bad[0]])} tokens, which leaves no room for {max_new_tokens} new "
                f"ones in a context of {self.max_length} ({len(bad)} of {len(prompts)} prompts). Shorten such "
                "prompts or lower max_new_tokens."
            )


def _computed(
    model: Any, examples: Sequence[Example], pad: int, batch_tokens: int, cache: RowCache | None
) -> list[list[ResponseLogProbability]]:
    sums = kept_sums(model, examples, pad=pad, use_packing=can_pack(model), tokens_per_batch=batch_tokens, cache=cache)
    return [
        [
            ResponseLogProbability(value, len(response) - given)
            for value, response, given in zip(row, example.responses, example.given, strict=True)
        ]
        for row, example in zip(sums, examples, strict=True)
    ]
