"""Sampling: 8 answers to one prompt of 256 tokens, `LanguagePolicy.draw` against `generate` of transformers.

    python benchmarks/sample.py [--quick] [--json -]

The same model ("small-chat", fp32), prompt, temperature and number of new tokens on both sides; no token ends an
answer, so that all have their full length. The peer gets `num_return_sequences=8`. Timed are whole calls, the reading
of the prompt included: the second of two equal ones and, as `first_call_ratio`, the first, which also pays for memory
that the process never had before. Ours also gives the log-probability of every token, which the peer is not asked for.

A third side is llama.cpp's engine on the same file, whose weights are quantised: less exact work, so its keys stand
apart. Agreement comes first: one greedy answer must be equal to the peer's, and log-probabilities that came with
samples are compared with those of a plain forward pass of the fp32 model.
"""

import importlib.util
import json
import sys
from statistics import median
from typing import Any

import numpy as np
from paired import Found, Result, Stopwatch, Work, alternate, apart, arguments, peak_mib, single_token_words

PROMPT_TOKENS, N, TEMPERATURE = 256, 8, 0.7
RATIOS = ("throughput_ratio", "first_call_ratio", "memory_ratio")


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


def ours(policy: Any, n: int, n_tokens: int, temperature: float, engine: str = "torch") -> list[Any]:
    """Samples as a user of penchant takes them."""
    [samples] = policy.draw([prompt(policy)[0]], n, temperature=temperature, max_new_tokens=n_tokens, engine=engine)
    return list(samples)


def llama(policy: Any, n: int, n_tokens: int, temperature: float) -> list[Any]:
    """The same through llama.cpp's engine."""
    return ours(policy, n, n_tokens, temperature, "llama")


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
    """Whether the likeliest answer is the same, and how far log-probabilities are from those of a forward pass."""
    policy = endless()
    [mine], [theirs] = ours(policy, 1, n_tokens, 0.0), peer(policy, 1, n_tokens, 0.0)
    found: Found = {"greedy_equal": mine.text == theirs, "greedy_ours": mine.text, "greedy_peer": theirs}
    found["log_probability_difference"] = float(differences(policy, ours(policy, N, n_tokens, TEMPERATURE)).max())
    if has_llama():
        samples = llama(policy, N, n_tokens, TEMPERATURE)
        found["llama_log_probability_difference"] = float(differences(policy, samples).mean())
    return found


def differences(policy: Any, samples: list[Any]) -> Any:
    """Of each sampled token, how far its log-probability is from what the fp32 model gives it, nats."""
    import torch

    from penchant.policies import Example, padded, token_log_probabilities

    example = Example(tuple(prompt(policy)[1]), tuple(one.tokens for one in samples))
    with torch.no_grad():
        plain = token_log_probabilities(policy.model, padded([example], pad=policy.pad_token)).values.numpy()
    return np.abs(plain - np.array([value for one in samples for value in one.log_probabilities]))


def has_llama() -> bool:
    """Whether the engine is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def timed(work: Work) -> Found:
    """One side, in a process of its own."""
    sampled, policy = {"ours": ours, "peer": peer, "llama": llama}[work["side"]], endless()
    sampled(policy, 1, 2, TEMPERATURE)
    with Stopwatch() as first:
        sampled(policy, N, work["n_tokens"], TEMPERATURE)
    with Stopwatch() as second:
        sampled(policy, N, work["n_tokens"], TEMPERATURE)
    speed = N * work["n_tokens"] / second.wall
    return {
        "wall": second.wall,
        "cpu": second.cpu,
        "first_wall": first.wall,
        "first_cpu": first.cpu,
        "peak_mib": peak_mib(),
        "tokens_per_second": speed,
    }


def main() -> None:
    """Agreement first, then both sides, turn by turn."""
    asked = arguments(str(__doc__))
    if asked.work:
        n_tokens = asked.work["n_tokens"]
        print(json.dumps(agreement(n_tokens) if asked.work["side"] == "both" else timed(asked.work)))
        return
    n_tokens, repeats = (8, 2) if asked.quick else (64, 5)
    sides = ["ours", "peer", *(["llama"] if has_llama() else [])]
    result = Result("sample", quick=asked.quick, repeats=repeats, peers=("torch", "transformers", "xllamacpp"))
    result.numbers |= {"new_tokens": n_tokens} | apart({"side": "both", "n_tokens": n_tokens if asked.quick else 32})
    if result.numbers["greedy_equal"]:
        turns = alternate({side: {"side": side, "n_tokens": n_tokens} for side in sides}, repeats)
        result.keep("samples", turns)
        for side, found in turns.items():
            result.numbers[f"{side}_tokens_per_second"] = median(one["tokens_per_second"] for one in found)
        for side in sides:
            if side != "peer":
                compare(result, "" if side == "ours" else f"{side}_", turns["peer"], turns[side])
    else:
        for name in RATIOS:
            result.refuse(name, f"greedy answers differ: {result.numbers['greedy_ours']!r} and the peer's")
    if "llama" not in sides:
        for name in RATIOS:
            result.refuse(f"llama_{name}", "xllamacpp is not installed")
    result.report(asked)


def compare(result: Result, prefix: str, peer: list[Found], side: list[Found]) -> None:
    """The ratios of one side to the peer."""
    result.speed(f"{prefix}throughput_ratio", peer, side)
    first = ([{clock: one[f"first_{clock}"] for clock in ("wall", "cpu")} for one in turns] for turns in (peer, side))
    result.speed(f"{prefix}first_call_ratio", *first)
    result.ratio(f"{prefix}memory_ratio", *([one["peak_mib"] for one in turns] for turns in (side, peer)))


if __name__ == "__main__":
    main()
