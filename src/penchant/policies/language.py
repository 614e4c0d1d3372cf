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

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from penchant.cache import RowCache
from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.policies import gguf, rendering
from penchant.policies.fingerprint import fingerprint, response_key
from penchant.policies.rendering import Form
from penchant.policies.sampling import sample_tokens
from penchant.policies.sequences import Example, can_pack, packed, padded, token_log_probabilities

SMALL_CHAT = "small-chat"
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Condition = str | None | Sequence[str | None]
_NOTE = "penchant.json"  # beside saved adapters: the model they belong to


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


def load(model: str, *, precision: Precision = "auto") -> tuple[Any, Any]:
    """A causal language model in evaluation mode, on the GPU if there is one, and its tokenizer.

    Args:
        model: "small-chat", a folder, a GGUF file or a name on the Hugging Face hub.
        precision: of the weights; "auto" is bfloat16 on a GPU that has it, and float32 on CPUs, most of which have
            bfloat16 in name only (50 times slower).

    Raises:
        UnknownNameError: there is no such model, or it has no safetensors; neither pickled weights nor code that
            comes with a model are ever loaded.
        MissingExtraError: "small-chat" is asked for, but its package is not installed.
        DataError: a GGUF file cannot be read, or the tokenizer does not tell where its tokens lie in a text.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model
    if model == SMALL_CHAT:
        folder = str(gguf.converted(gguf.small_chat()))
    elif model.endswith(".gguf"):
        folder = str(gguf.converted(Path(model)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, precision), use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise UnknownNameError(
            f"There is no language model {model!r} that can be loaded: {error}. Give {SMALL_CHAT!r}, a folder with "
            "config.json and safetensors, a .gguf file, or a name on the Hugging Face hub."
        ) from error
    if not tokenizer.is_fast:
        raise DataError(
            f"The tokenizer of {model!r} does not tell where its tokens lie in a text; it needs a fast one."
        )
    ready: Any = loaded
    return ready.to(device).eval(), tokenizer


class LanguagePolicy:
    """A language model, its tokenizer, and the frozen reference it started from.

    Args:
        model: "small-chat", a folder, a GGUF file or a name on the Hugging Face hub.
        lora_rank: rank of new adapters on all linear layers; None trains all weights.
        lora_alpha: their scale; None: twice the rank.
        adapter: folder of adapters that `save` wrote; their model is `model`.
        precision: of the weights; "auto" suits the machine.
        max_length: most tokens of prompt and response; None: what the model can read.
        seed: of the first weights of new adapters.

    Attributes:
        model: of transformers, or of peft where there are adapters.
        tokenizer: of transformers.
        name: what `model` was given.

    Raises:
        SettingsError: adapters are both new and loaded, or belong to another model.
        DataError: there are no adapters as safetensors in the folder.
        UnknownNameError: there is no such model.
    """

    def __init__(
        self,
        model: str = SMALL_CHAT,
        *,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        adapter: str | Path | None = None,
        precision: Precision = "auto",
        max_length: int | None = None,
        seed: int = 0,
    ):
        if adapter is not None and lora_rank is not None:
            raise SettingsError("Give either `lora_rank` for new adapters or `adapter` for saved ones.")
        self.name, self.precision = model, precision
        if adapter is not None:
            _require_adapters_of(Path(adapter), model)
        self.model, self.tokenizer = load(model, precision=precision)
        if lora_rank is not None:
            self.model = _with_new_adapters(self.model, lora_rank, lora_alpha, seed)
        elif adapter is not None:
            self.model = _with_saved_adapters(self.model, Path(adapter))
        self.max_length = max_length or getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self._frozen: Any = None

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained rather than all weights."""
        return hasattr(self.model, "disable_adapter")

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a turn."""
        more = self.model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])}
        return frozenset(ends - {None})

    @property
    def pad_token(self) -> int:
        """Token to fill rows with; it is never seen."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(token for token in known if token is not None)

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """The frozen model this policy started from: without its adapters, or loaded a second time.

        A policy that trains all its weights starts from what `name` holds; if its folder is overwritten, so is this.
        """
        if self.has_adapters:
            with self.model.disable_adapter():
                yield self.model
            return
        if self._frozen is None:
            self._frozen = load(self.name, precision=self.precision)[0].requires_grad_(False)
        yield self._frozen

    def encode(
        self, prompt: str, responses: Sequence[str], *, condition: str | None = None, form: Form = "text"
    ) -> Example:
        """Token ids of a prompt and its responses, as `rendering.encode` makes them.

        Args:
            prompt: what a person wrote, or the JSON of a list of messages.
            responses: what was answered; each ends with the end-of-turn token.
            condition: text for the system message.
            form: "text" or "messages".

        Raises:
            DataError: messages are malformed, or something is longer than `max_length`.
        """
        return rendering.encode(
            self.tokenizer,
            prompt,
            responses,
            condition=condition,
            form=form,
            end_tokens=self.end_tokens,
            max_length=self.max_length,
        )

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
            for prompt, wish in zip(prompts, _each(condition, len(prompts)), strict=True)
        ]
        self._require_room(tokens, max_new_tokens)
        with _evaluating(self.model):
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
        form: Form = "text",
        reference: bool = False,
        batch_tokens: int = 4096,
        cache: RowCache | None = None,
    ) -> list[list[ResponseLogProbability]]:
        """How likely the policy, or its reference, finds each response; without gradients.

        Args:
            prompts: what people wrote, or JSON lists of messages.
            responses: one or more for each prompt.
            condition: text for the system message, for all prompts or one for each.
            form: "text" or "messages".
            reference: ask the frozen reference.
            batch_tokens: about how many tokens to compute at once.
            cache: keeps what was computed, by the model's weights and the row's tokens.

        Raises:
            DataError: there is not one list of responses for each prompt, or one is empty or too long.
        """
        if len(responses) != len(prompts):
            raise DataError(f"There are {len(prompts)} prompts and {len(responses)} lists of responses; give as many.")
        wishes = _each(condition, len(prompts))
        examples = [
            self.encode(prompt, answers, condition=wish, form=form)
            for prompt, answers, wish in zip(prompts, responses, wishes, strict=True)
        ]
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
        form: Form = "text",
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

    def save(self, folder: str | Path) -> None:
        """Write the adapters, or the whole model where there are none, and the tokenizer; weights as safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # peft would ask the hub whether embeddings changed; adapters on linear layers never change them.
        self.model.save_pretrained(str(folder), **({"save_embedding_layers": False} if self.has_adapters else {}))
        self.tokenizer.save_pretrained(str(folder))
        if self.has_adapters:
            (folder / _NOTE).write_text(json.dumps({"model": self.name}), encoding="utf-8")

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


def _each(condition: Condition, n: int) -> list[str | None]:
    if condition is None or isinstance(condition, str):
        return [condition] * n
    if len(condition) != n:
        raise DataError(f"There are {len(condition)} conditions for {n} prompts; give one for all, or one for each.")
    return list(condition)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _computed(
    model: Any, examples: Sequence[Example], pad: int, batch_tokens: int, cache: RowCache | None
) -> list[list[ResponseLogProbability]]:
    """Log-probabilities of the responses of each example, those that the cache knows taken from there."""
    keys = [[response_key(example, i) for i in range(len(example.responses))] for example in examples]
    lengths = {
        key: len(r) - g
        for example, of in zip(examples, keys, strict=True)
        for key, r, g in zip(of, example.responses, example.given, strict=True)
    }
    namespace = f"log-probabilities-{fingerprint(model)}" if cache else ""
    kept = dict(zip(lengths, cache.get_many(namespace, list(lengths)), strict=True)) if cache else {}
    sums = {key: float(np.frombuffer(value, "<f8")[0]) for key, value in kept.items() if value is not None}
    missing = [i for i, of in enumerate(keys) if any(key not in sums for key in of)]
    with _evaluating(model):
        form = packed if can_pack(model) else padded
        for chosen in _groups([examples[i].n_tokens for i in missing], batch_tokens):
            rows = [missing[i] for i in chosen]
            found = token_log_probabilities(model, form([examples[i] for i in rows], pad=pad)).sums().tolist()
            fresh = dict(zip([key for i in rows for key in keys[i]], found, strict=True))
            sums |= fresh
            if cache:
                cache.put_many(namespace, {key: np.float64(value).tobytes() for key, value in fresh.items()})
    return [[ResponseLogProbability(sums[key], lengths[key]) for key in of] for of in keys]


def _groups(n_tokens: Sequence[int], budget: int) -> list[list[int]]:
    """Indices, longest first, in groups of like length with about `budget` tokens each."""
    groups: list[list[int]] = []
    free = 0
    for i in sorted(range(len(n_tokens)), key=lambda i: -n_tokens[i]):
        if not groups or n_tokens[i] > free:
            groups.append([])
            free = budget
        groups[-1].append(i)
        free -= n_tokens[i]
    return groups


@contextmanager
def _peft() -> Iterator[Any]:
    """The module peft, without its remark that transformers has renamed a property that peft asks for."""
    import peft

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield peft


def _with_new_adapters(model: Any, rank: int, alpha: float | None, seed: int) -> Any:
    if rank < 1:
        raise SettingsError(f"lora_rank must be at least 1, or None to train all weights: got {rank!r}.")
    devices = [model.device] if model.device.type == "cuda" else []
    with _peft() as peft, torch.random.fork_rng(devices):  # peft draws from torch's global generator
        torch.manual_seed(seed)
        settings = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return peft.get_peft_model(model, settings).eval()


def _require_adapters_of(folder: Path, model: str) -> None:
    if not (folder / "adapter_model.safetensors").is_file():
        raise DataError(f"There are no adapters in {str(folder)!r}: adapter_model.safetensors is missing.")
    note = folder / _NOTE
    made_for = json.loads(note.read_text(encoding="utf-8"))["model"] if note.is_file() else model
    if made_for != model:
        raise SettingsError(f"The adapters in {str(folder)!r} belong to the model {made_for!r}, not {model!r}.")


def _with_saved_adapters(model: Any, folder: Path) -> Any:
    with _peft() as peft:
        return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True, use_safetensors=True).eval()
