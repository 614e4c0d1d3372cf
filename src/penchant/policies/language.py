"""A language model that can be steered: it writes responses, and says how likely it finds them.

Any causal language model that transformers can load, with its weights as safetensors or in a GGUF file; by default the
small chat model that comes with penchant. With `lora_rank` only adapters are trained, and the reference is the same
model with its adapters switched off; without, all weights are, and the reference is loaded a second time if asked for.

```python
policy = LanguagePolicy()                                          # SmolLM2-135M-Instruct
policy.sample(["Name a colour."], n=3, condition="Answer in one word.")
policy.draw(["Name a colour."], n=3)[0][0].log_probability         # the same with tokens and log-probabilities
policy.log_probabilities(["Name a colour."], [["Red.", "Seven."]])
```
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, get_args

from penchant.cache import RowCache
from penchant.errors import DataError, SettingsError, nearest
from penchant.llama import gguf_file
from penchant.policies import rendering
from penchant.policies.log_probabilities import kept_sums
from penchant.policies.pretrained import Condition, Forms, Pretrained, evaluating, one_for_each
from penchant.policies.quantised import QuantisedSampler, why_not
from penchant.policies.sampling import Sampler, sample_tokens
from penchant.policies.sequences import Batch, Example, TokenLogProbabilities, can_pack, token_log_probabilities
from penchant.turns import Form

Engine = Literal["torch", "llama", "auto"]


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


@dataclass(frozen=True)
class Sample:
    """A response that was sampled.

    Attributes:
        text: without the end of the turn.
        tokens: token ids; the last one ends the turn, unless the response stopped because it was long enough.
        log_probabilities: of each token, nats: the sampling model's own, at temperature 1 and over all tokens, whatever
            `temperature` and `top_p` it was sampled with. With the engine "torch" they are what the policy gives these
            tokens, up to rounding; with "llama" what the quantised model does.
    """

    text: str
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]

    @property
    def log_probability(self) -> ResponseLogProbability:
        """Of the whole response."""
        return ResponseLogProbability(math.fsum(self.log_probabilities), len(self.tokens))


class Drawing(TypedDict, total=False):
    """How to sample; what each means, and its default, is told at `LanguagePolicy.draw`."""

    condition: Condition
    form: Form
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    rows_at_once: int
    engine: Engine
    progress: bool


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

    def sample(self, prompts: Sequence[str], n: int = 1, **settings: Unpack[Drawing]) -> list[list[str]]:
        """The texts of `draw`, with the same arguments and Raises: all that steering asks of a policy."""
        return [[one.text for one in of_prompt] for of_prompt in self.draw(prompts, n, **settings)]

    def draw(
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
        engine: Engine = "torch",
        progress: bool = False,
    ) -> list[list[Sample]]:
        """Responses to each prompt, with their log-probabilities; a prompt is computed once for all its samples.

        Args:
            prompts: what people wrote, or JSON lists of messages.
            n: responses to each.
            condition: text for the system message, for all prompts or one for each.
            form: "text" or "messages".
            temperature: 0 for the likeliest token each time.
            top_p: share of the probability to sample from, in (0, 1].
            max_new_tokens: a response stops here at the latest.
            seed: same seed, same samples (of one engine).
            rows_at_once: most responses that grow side by side.
            engine: "torch" for this very model; "llama" for llama.cpp's engine, which computes with the quantised
                weights of the GGUF file that the policy came from; "auto" for the latter where the policy allows it.
            progress: show a bar.

        Returns:
            For each prompt n samples.

        Raises:
            DataError: a prompt leaves no room for `max_new_tokens`, or messages are malformed.
            SettingsError: a setting is out of its range, or the policy cannot be sampled through the engine.
        """
        tokens = [
            rendering.prompt_tokens(self.tokenizer, prompt, condition=wish, form=form)
            for prompt, wish in zip(prompts, one_for_each(condition, len(prompts), "conditions"), strict=True)
        ]
        self._require_room(tokens, max_new_tokens)
        with evaluating(self.model):
            drawn = self._sampler(engine)(
                tokens,
                n,
                end_tokens=self.end_tokens,
                temperature=temperature,
                top_p=top_p,
                max_new_tokens=max_new_tokens,
                seed=seed,
                rows_at_once=rows_at_once,
                progress=progress,
            )
        return [
            [Sample(self._text(one.tokens), one.tokens, one.log_probabilities) for one in of_prompt]
            for of_prompt in drawn
        ]

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

    def _sampler(self, engine: Engine) -> Sampler:
        if engine not in get_args(Engine):
            raise SettingsError(f"There is no engine {engine!r}; {nearest(engine, get_args(Engine))}.")
        reason = "" if engine == "torch" else why_not(self.name, self.model)
        if reason and engine == "llama":
            raise SettingsError(
                f"This policy cannot be sampled through llama.cpp's engine: {reason}. Use engine='torch', or 'auto'."
            )
        if engine == "torch" or reason:
            return partial(sample_tokens, self.model, pad=self.pad_token)
        return self._quantised

    @cached_property
    def _quantised(self) -> QuantisedSampler:
        return QuantisedSampler(gguf_file(self.name))

    def _text(self, sample: Sequence[int]) -> str:
        if sample[-1] in self.end_tokens:
            sample = sample[:-1]
        return str(self.tokenizer.decode(list(sample), skip_special_tokens=True))

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
