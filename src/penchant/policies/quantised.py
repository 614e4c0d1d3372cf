"""Samples through llama.cpp's engine, from a policy whose weights are those of a GGUF file.

The engine computes with the file's quantised weights and rounds what it multiplies them with to 8 bits, so that its
samples are those of a slightly other model, and so are the log-probabilities that come with them (the benchmark of
sampling states how far they are from torch's). It needs a fraction of the memory, and is the faster way to a few
samples at a time; torch is faster with many side by side.
"""

import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tqdm.auto import tqdm

from penchant.llama import SEEDS, LlamaEngine, gguf_file, is_gguf
from penchant.policies import gguf
from penchant.policies.sampling import SampledTokens, require_samplable, seeds_of


def why_not(name: str, model: Any) -> str:
    """Why a policy cannot be sampled through the engine; empty if it can.

    Args:
        name: what it was loaded from.
        model: its weights as they are now; they are compared with the file's, which takes a moment.
    """
    if not is_gguf(name):
        return "its weights do not come from a GGUF file"
    if hasattr(model, "disable_adapter"):
        return "it has adapters, which its GGUF file has not"
    if importlib.util.find_spec("xllamacpp") is None:
        return "xllamacpp is not installed (pip install 'penchant[llama]')"
    if not _equals(model, gguf.converted(gguf_file(name))):
        return "its weights are no longer those of its GGUF file"
    return ""


class QuantisedSampler:
    """A `Sampler` of a GGUF file; the samples of one prompt share its computation.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._engine: LlamaEngine | None = None

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        n: int = 1,
        *,
        end_tokens: Collection[int],
        temperature: float = 0.7,
        top_p: float = 1.0,
        max_new_tokens: int = 64,
        seed: int = 0,
        rows_at_once: int = 32,
        progress: bool = False,
    ) -> list[list[SampledTokens]]:
        """As `sample_tokens`; without `end_tokens` those that end a turn are never sampled.

        Raises:
            SettingsError: a setting is out of its range.
            DataError: the engine cannot read the file.
            LlamaError: the engine refuses.
        """
        require_samplable(n, temperature, top_p, max_new_tokens, rows_at_once)
        if not prompts:
            return []
        at_once = min(n, rows_at_once)
        engine = self._engine_for(max(map(len, prompts)) + at_once * max_new_tokens, at_once)
        samples: list[list[SampledTokens]] = [[] for _ in prompts]
        with tqdm(total=len(prompts) * n * max_new_tokens, unit="token", disable=not progress) as bar:
            for prompt, own_seed, found in zip(prompts, seeds_of(len(prompts), seed), samples, strict=True):
                while len(found) < n:
                    body = {
                        "prompt": list(prompt),
                        "n": min(at_once, n - len(found)),
                        "max_tokens": max_new_tokens,
                        "temperature": temperature,
                        "top_p": top_p,
                        "samplers": ["temperature", "top_p"],  # in this order, as in torch
                        "seed": (own_seed + len(found)) % SEEDS,
                        "logprobs": 1,
                        "ignore_eos": not end_tokens,
                    }
                    reply = engine.complete(body, form="text")
                    choices = sorted(reply["choices"], key=lambda choice: choice["index"])
                    found += [_sampled(choice["logprobs"]["content"], end_tokens) for choice in choices]
                    bar.update(len(choices) * max_new_tokens)
        return samples

    def _engine_for(self, context: int, n_at_once: int) -> LlamaEngine:
        """The engine that there is, if it is large enough; else a new one, because its sizes are fixed."""
        engine = self._engine
        if engine is None or engine.context < context or engine.n_at_once < n_at_once:
            if engine is not None:
                context, n_at_once = max(context, engine.context), max(n_at_once, engine.n_at_once)
                engine = self._engine = None  # its memory goes first
            n_threads = torch.get_num_threads()
            context = max(2048, context)
            engine = self._engine = LlamaEngine(self.path, n_threads=n_threads, context=context, n_at_once=n_at_once)
        return engine


def _sampled(content: Sequence[dict[str, Any]], end_tokens: Collection[int]) -> SampledTokens:
    tokens = [int(token["id"]) for token in content]
    n = next((i for i, token in enumerate(tokens, start=1) if token in end_tokens), len(tokens))
    return SampledTokens(tuple(tokens[:n]), tuple(float(token["logprob"]) for token in content[:n]))


def _equals(model: Any, folder: Path) -> bool:
    """Whether a model's weights are those of a folder's safetensors."""
    weights = model.state_dict()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, it is no dictionary
                kept, now = file.get_tensor(name), weights.get(name)
                if now is None or now.dtype != kept.dtype or not torch.equal(now.cpu(), kept):
                    return False
    return True
