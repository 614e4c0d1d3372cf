"""Sampling: 8 answers to one prompt of 256 tokens, `LanguagePolicy.sample` against `generate` of transformers.

    python benchmarks/sample.py [--quick] [--json -]

The same model ("small-chat", fp32), prompt, temperature and number of new tokens on both sides; no token ends an
answer, so that all have their full length. Ours reads the prompt once and repeats its cache for every sample; the peer
gets `num_return_sequences=8`. Timed is the whole call, the reading of the prompt included, after a first one of two
tokens. Agreement comes first: one greedy answer must be equal.
"""

import json
import sys
from statistics import median
from typing import Any

import numpy as np
from paired import Found, Result, Stopwatch, Work, alternate, apart, arguments, peak_mib, single_token_words

PROMPT_TOKENS, N, TEMPERATURE = 256, 8, 0.7
RATIOS = ("throughput_ratio", "memory_ratio")


def endless() -> Any:
    """The policy, without tokens that end an answer."""
    from penchant.policies import LanguagePolicy

    class Endless(LanguagePolicy):
        end_tokens = frozenset()  # type: ignore[assignment]

    return Endless(precision="float32")


def prompt(policy: Any) -> tuple[str, list[int]]:
    """Random words that are so many tokens within the chat template, and those tokens."""
    from penchant.policies.rendering import prompt_tokens

    words = single_token_words(policy.tokenizer)
    around = len(prompt_tokens(policy.tokenizer, words[0])) - 1
    text = " ".join(np.random.default_rng(0).choice(words, PROMPT_TOKENS - around))
    tokens = list(prompt_tokens(policy.tokenizer, text))
    if len(tokens) != PROMPT_TOKENS:
        sys.exit(f"The words made {len(tokens)} tokens, not {PROMPT_TOKENS}.")
    return text, tokens


def ours(policy: Any, n: int, n_tokens: int, temperature: float) -> list[str]:
    """Samples as a user of penchant takes them."""
    [samples] = policy.sample([prompt(policy)[0]], n, temperature=temperature, max_new_tokens=n_tokens)
    return list(samples)


def peer(policy: Any, n: int, n_tokens: int, temperature: float) -> list[str]:
    """Samples from the same model by transformers' own loop."""
    import torch

    model = policy.model
    model.generation_config.eos_token_id = None
    tokens = torch.tensor([prompt(policy)[1]], device=model.device)
    # top_k=0: its default would sample from the 50 likeliest tokens only, which is other work
    how = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature else {}
    torch.manual_seed(0)
    made = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=n_tokens,
        num_return_sequences=n,
        pad_token_id=policy.pad_token,
        **({"do_sample": False} | how),
    )[:, PROMPT_TOKENS:]
    if made.shape != (n, n_tokens):
        sys.exit(f"The peer made {tuple(made.shape)} tokens, not {(n, n_tokens)}.")
    return list(policy.tokenizer.batch_decode(made, skip_special_tokens=True))


def agreement(n_tokens: int) -> Found:
    """Whether the likeliest answer is the same."""
    policy = endless()
    [mine], [theirs] = (sampled(policy, 1, n_tokens, 0.0) for sampled in (ours, peer))
    return {"greedy_equal": mine == theirs, "greedy_ours": mine, "greedy_peer": theirs}


def timed(work: Work) -> Found:
    """One side, in a process of its own."""
    sampled, policy = {"ours": ours, "peer": peer}[work["side"]], endless()
    sampled(policy, 1, 2, TEMPERATURE)
    with Stopwatch() as watch:
        sampled(policy, N, work["n_tokens"], TEMPERATURE)
    speed = N * work["n_tokens"] / watch.wall
    return {"wall": watch.wall, "cpu": watch.cpu, "peak_mib": peak_mib(), "tokens_per_second": speed}


def main() -> None:
    """Agreement first, then both sides, turn by turn."""
    asked = arguments(str(__doc__))
    if asked.work:
        n_tokens = asked.work["n_tokens"]
        print(json.dumps(agreement(n_tokens) if asked.work["side"] == "both" else timed(asked.work)))
        return
    n_tokens, repeats = (8, 2) if asked.quick else (64, 5)
    result = Result("sample", quick=asked.quick, repeats=repeats, peers=("torch", "transformers"))
    result.numbers |= {"new_tokens": n_tokens} | apart({"side": "both", "n_tokens": 32 if not asked.quick else 8})
    if result.numbers["greedy_equal"]:
        turns = alternate({side: {"side": side, "n_tokens": n_tokens} for side in ("ours", "peer")}, repeats)
        result.keep("samples", turns)
        for side, found in turns.items():
            result.numbers[f"{side}_tokens_per_second"] = median(one["tokens_per_second"] for one in found)
        result.speed("throughput_ratio", turns["peer"], turns["ours"])
        result.ratio("memory_ratio", *([one["peak_mib"] for one in turns[side]] for side in ("ours", "peer")))
    for name in () if result.numbers["greedy_equal"] else RATIOS:
        result.refuse(name, f"greedy answers differ: {result.numbers['greedy_ours']!r} and the peer's")
    result.report(asked)


if __name__ == "__main__":
    main()
