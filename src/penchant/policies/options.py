"""How likely a language model finds each of a few one-token options to be what comes next: a judge's A or B.

The next token's probabilities, and nothing sampled. How much of them falls on the options at all is part of the answer:
a model that puts little there did not understand the question, and its preference between them says little.

```python
option_log_probabilities(policy, ["Is it A or B?"], (" A", " B"), opening="The answer is")
```
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.cache import RowCache
from penchant.errors import DataError
from penchant.policies import rendering
from penchant.policies.language import LanguagePolicy
from penchant.policies.log_probabilities import kept_sums
from penchant.policies.sequences import Example


def option_log_probabilities(
    policy: LanguagePolicy,
    prompts: Sequence[str],
    options: Sequence[str],
    *,
    opening: str,
    batch_tokens: int = 2048,
    cache: RowCache | None = None,
) -> NDArray[np.float64]:
    """Log-probability that the first token after the opening of an answer is this option's.

    Args:
        policy: the model.
        prompts: what is asked.
        options: texts of one token each, with the space before them if there is one.
        opening: how the answer begins.
        batch_tokens: about how many tokens to compute at once.
        cache: keeps what was computed.

    Returns:
        [prompts, options], nats; the exponentials of a row sum to at most 1.

    Raises:
        DataError: an option is not a single token after the opening, two are the same token, or a prompt is longer
            than the model's context.
    """
    asked = [_example(policy.tokenizer, prompt, opening, options, policy.max_length) for prompt in prompts]
    sums = kept_sums(
        policy.model,
        asked,
        pad=policy.pad_token,
        use_packing=policy.can_pack,
        tokens_per_batch=batch_tokens,
        cache=cache,
    )
    return np.array(sums, dtype=np.float64).reshape(len(prompts), len(options))


def leaves_room(policy: LanguagePolicy, prompt: str, *, opening: str) -> bool:
    """Whether a prompt and the opening of an answer leave room for an option in the model's context."""
    return policy.max_length is None or sum(map(len, _asked(policy.tokenizer, prompt, opening))) < policy.max_length


def _asked(tokenizer: Any, prompt: str, opening: str) -> tuple[Sequence[int], list[int]]:
    """Tokens that a tokenizer puts before everything, and those of the prompt and the opening."""
    text = rendering.prompt_text(tokenizer, prompt)
    start = rendering.prompt_tokens(tokenizer, prompt)[: -len(_ids(tokenizer, text))]
    return start, _ids(tokenizer, text + opening)


def _example(tokenizer: Any, prompt: str, opening: str, options: Sequence[str], longest: int | None) -> Example:
    before = rendering.prompt_text(tokenizer, prompt) + opening
    start, ids = _asked(tokenizer, prompt, opening)
    tokens = []
    for option in options:
        whole = _ids(tokenizer, before + option)
        if len(whole) != len(ids) + 1 or whole[:-1] != ids:
            raise DataError(
                f"{option!r} is not a single token after {opening[-30:]!r} but {len(whole) - len(ids)}; its "
                "probability cannot be read off one place. Give other options, or end the opening elsewhere."
            )
        tokens.append(whole[-1])
    if len(set(tokens)) < len(tokens):
        raise DataError(f"The options {list(options)!r} are the same token to this model; give others.")
    if longest is not None and len(start) + len(ids) >= longest:
        raise DataError(
            f"A question of {len(ids)} tokens leaves no room for an answer in the model's context of {longest}: "
            f"{prompt[:60]!r}... Leave such pairs out."
        )
    return Example(prompt=(*start, *ids), responses=tuple((token,) for token in tokens), given=(0,) * len(tokens))


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
