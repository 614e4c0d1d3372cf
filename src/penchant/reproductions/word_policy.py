"""A policy over the words of a small language, one token a word: language models that train in seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from penchant.policies.language import ResponseLogProbability


class WordPolicy:
    """A causal transformer over the words of a small language.

    Args:
        vocabulary: number of each word, from 2 on; 0 is padding and 1 the end of a response.
        seed: of its initial weights.
        layers: of the transformer.
        width: of its hidden states.
    """

    def __init__(self, vocabulary: Mapping[str, int], seed: int, *, layers: int = 2, width: int = 64):
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        # transformers initialises from the global generator: fork it, so that nobody else's stream moves.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=2 + len(vocabulary),
                    hidden_size=width,
                    intermediate_size=2 * width,
                    num_hidden_layers=layers,
                    num_attention_heads=4,
                    max_position_embeddings=64,
                    pad_token_id=0,
                    bos_token_id=None,
                    eos_token_id=1,
                )
            )
        self.vocabulary, self._words = vocabulary, {number: word for word, number in vocabulary.items()}
        self.tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=1)

    def encode(self, prompt: str, responses: Sequence[str], *, condition: str | None = None, form: str = "text") -> Any:
        """Words as token ids; every response ends with the end token."""
        from penchant.policies.sequences import Example

        return Example(self._ids(prompt), tuple((*self._ids(response), 1) for response in responses))

    @property
    def can_pack(self) -> bool:
        """Whether packed batches give exact values."""
        from penchant.policies.sequences import can_pack

        return can_pack(self.model)

    def scores(self, model: Any, batch: Any) -> Any:
        """Log-probability of every response token."""
        from penchant.policies.sequences import token_log_probabilities

        return token_log_probabilities(model, batch)

    def log_probabilities(
        self, prompts: Sequence[str], responses: Sequence[Sequence[str]]
    ) -> list[list[ResponseLogProbability]]:
        """How likely it finds each response."""
        from penchant.policies.log_probabilities import kept_sums
        from penchant.policies.pretrained import evaluating

        examples = [self.encode(prompt, some) for prompt, some in zip(prompts, responses, strict=True)]
        with evaluating(self.model):
            sums = kept_sums(self.model, examples, pad=0, use_packing=self.can_pack, tokens_per_batch=4096, cache=None)
        return [
            [ResponseLogProbability(value, len(ids)) for value, ids in zip(row, example.responses, strict=True)]
            for row, example in zip(sums, examples, strict=True)
        ]

    def sample(
        self, prompts: Sequence[str], n: int = 1, *, temperature: float = 1.0, max_new_tokens: int = 12, seed: int = 0
    ) -> list[list[str]]:
        """Responses to each prompt, [prompts][n]."""
        from penchant.policies.pretrained import evaluating
        from penchant.policies.sampling import sample_tokens

        with evaluating(self.model):
            drawn = sample_tokens(
                self.model,
                [self._ids(prompt) for prompt in prompts],
                n,
                end_tokens=[1],
                pad=0,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                seed=seed,
                rows_at_once=256,
            )
        return [[" ".join(self._words[i] for i in one.tokens if i > 1) for one in some] for some in drawn]

    def save(self, path: Path, *, weights: Any = None) -> None:
        """Weights and configuration."""
        self.model.save_pretrained(path, state_dict=weights)

    def weights(self) -> dict[str, Any]:
        """A copy of them."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.vocabulary[word] for word in text.split())
