"""Judges behind one protocol: chat models that write, language models read by their letters, rewards, plain functions.

>>> from penchant.evaluate.cues import Item, shown
>>> question = shown(Item("2 + 2?", ("5", "4"), 1, "fact"), order=(0, 1))
>>> TextJudge(Function(lambda prompt: "<think>A?</think> It is <answer>B</answer>")).judge([question])[0].probability
array([0., 1.])
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax

from penchant.cache import RowCache, content_key
from penchant.chat.protocol import ChatError, ChatModel, Message
from penchant.encoders import Encoder
from penchant.errors import SettingsError
from penchant.evaluate.cues import Shown
from penchant.records import canonical_json

if TYPE_CHECKING:
    from penchant.policies.language import LanguagePolicy
    from penchant.policies.sequences import Example

Floats = NDArray[np.float64]
Reward = Callable[[Sequence[str], Sequence[str]], ArrayLike]


class Judgement(NamedTuple):
    """What a judge made of one question.

    Attributes:
        probability: that it chooses each place, float64[places], sum 1; one-hot if it just said one; None if invalid.
        text: what it said, for those who look.
    """

    probability: Floats | None
    text: str = ""


class Judge(Protocol):
    """Anything that chooses among options.

    Attributes:
        name: which judge.
        reads_prompts: whether it reads all options with their letters and can be told things; a reward does not.
        varies: whether it may answer one prompt differently the next time.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def reads_prompts(self) -> bool: ...  # noqa: D102
    @property
    def varies(self) -> bool: ...  # noqa: D102

    def judge(self, asked: Sequence[Shown], *, seed: int = 0) -> list[Judgement]:
        """A judgement of each; same seed, same judgements."""


_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_REST_OF_THOUGHT = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<answer>\s*(?:option\s+)?\(?([A-Za-z])[).:]?\s*</answer>", re.IGNORECASE)


def answered(text: str, letters: Sequence[str]) -> int | None:
    """Place of the letter in the tagged answer; None without one, or with two different ones.

    Reasoning is taken out first, also where its opening tag is missing or its closing tag never came. The article "a"
    in a sentence is no answer.

    >>> answered("<think>A is tempting: <answer>A</answer></think>A fair choice is <answer>B</answer>.", "AB")
    1
    >>> answered("A is better.", "AB") is None, answered("<answer>A</answer> or <answer>B</answer>", "AB") is None
    (True, True)
    """
    said = _REST_OF_THOUGHT.sub("", _THOUGHT.sub("", text))
    found = {letter.upper() for letter in _ANSWER.findall(said)}
    places = [place for place, letter in enumerate(letters) if letter in found]
    return places[0] if len(found) == len(places) == 1 else None


class Function:
    """A function from a prompt to a text, as a chat model.

    Args:
        function: gets the conversation as one text.
        name: of the judge.
    """

    def __init__(self, function: Callable[[str], str], name: str = "function"):
        self.function, self.name = function, name

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> list[str]:
        """As `ChatModel.complete`; what goes wrong inside the function is told as a ChatError."""
        prompt = "\n\n".join(str(message["content"]) for message in messages)
        try:
            return [str(self.function(prompt)) for _ in range(n)]
        except Exception as error:  # somebody else's code: whatever it raises, there is no answer
            raise ChatError(f"{self.name} failed ({type(error).__name__}: {error}).") from error


class TextJudge:
    """A chat model that writes its answer between tags.

    An answer that cannot be read, or none, is asked for again with another seed; then it is invalid.

    Args:
        chat: who answers; `penchant.chat.Cached` remembers what was answered.
        temperature: of the sampling.
        max_tokens: longest answer, thinking included.
        attempts: answers to ask for at most, >= 1.
        n_threads: questions that are asked at once, >= 1.
    """

    reads_prompts = True
    varies = True

    def __init__(
        self,
        chat: ChatModel,
        *,
        temperature: float = 0.7,
        max_tokens: int = 512,
        attempts: int = 3,
        n_threads: int = 1,
    ):
        if attempts < 1 or n_threads < 1 or max_tokens < 1:
            raise SettingsError(
                f"attempts, n_threads and max_tokens must be at least 1: got {attempts}, {n_threads}, {max_tokens}."
            )
        self.chat, self.temperature, self.max_tokens = chat, temperature, max_tokens
        self.attempts, self.n_threads = attempts, n_threads

    @property
    def name(self) -> str:
        """The chat model's."""
        return self.chat.name

    def judge(self, asked: Sequence[Shown], *, seed: int = 0) -> list[Judgement]:
        """As `Judge.judge`."""
        with ThreadPoolExecutor(self.n_threads) as pool:
            return list(pool.map(partial(self._one, seed=seed), asked))

    def _one(self, question: Shown, seed: int) -> Judgement:
        text = ""
        for attempt in range(self.attempts):
            try:
                [text] = self.chat.complete(
                    question.messages,
                    n=1,
                    temperature=self.temperature,
                    max_tokens=self.max_tokens,
                    seed=seed + 1000 * attempt,
                )
            except ChatError as error:
                text = f"(no answer: {error})"
                continue
            place = answered(text, question.letters)
            if place is not None:
                return Judgement(np.eye(len(question.letters))[place], text)
        return Judgement(None, text)


class LetterJudge:
    """A language model of which the probabilities of the letters are read; nothing is sampled or parsed.

    The model's answer is begun for it (`<answer>`), and each letter counts with and without a space before it, which
    are different tokens. Probabilities are of the letters given that it is one of them, so that a judgement is exactly
    what sampling at temperature 1 would give on average. Questions that begin alike are computed together, the
    beginning once; a probability is the same alone and in any company, to 1e-5.

    Args:
        policy: the model.
        batch_tokens: about how many tokens to compute at once; changes speed only.
        cache: keeps what was computed, by weights and tokens.
    """

    reads_prompts = True
    varies = False

    def __init__(self, policy: "LanguagePolicy", *, batch_tokens: int = 4096, cache: RowCache | None = None):
        self.policy, self.batch_tokens, self.cache = policy, batch_tokens, cache

    @property
    def name(self) -> str:
        """The policy's, by its letters."""
        return f"{self.policy.name} (letters)"

    def judge(self, asked: Sequence[Shown], *, seed: int = 0) -> list[Judgement]:
        """As `Judge.judge`; the seed changes nothing."""
        scores = self.scores(asked)
        return [Judgement(softmax(row)) for row in scores]

    def scores(self, asked: Sequence[Shown]) -> list[Floats]:
        """Log-probability of each place's letter, nats, float64[places], for each question."""
        from penchant.policies.fingerprint import fingerprint

        prompts = [self._prompt(question) for question in asked]
        keys = [
            content_key(" ".join(map(str, prompt)), "".join(question.letters))
            for prompt, question in zip(prompts, asked, strict=True)
        ]
        namespace = f"letters-{fingerprint(self.policy.model)}" if self.cache else ""
        kept = self.cache.get_many(namespace, keys) if self.cache else [None] * len(keys)
        new = [i for i, value in enumerate(kept) if value is None]
        found = {i: np.frombuffer(value, "<f8") for i, value in enumerate(kept) if value is not None}
        found |= dict(zip(new, self._computed([prompts[i] for i in new], [asked[i] for i in new]), strict=True))
        if self.cache:
            self.cache.put_many(namespace, {keys[i]: found[i].astype("<f8").tobytes() for i in new})
        return [found[i] for i in range(len(asked))]

    def _computed(self, prompts: Sequence[tuple[int, ...]], asked: Sequence[Shown]) -> list[Floats]:
        from penchant.policies.log_probabilities import kept_sums
        from penchant.policies.sequences import can_pack

        tokenizer = self.policy.tokenizer
        known = {
            letter: [tuple(tokenizer(form, add_special_tokens=False)["input_ids"]) for form in (letter, f" {letter}")]
            for letter in {letter for question in asked for letter in question.letters}
        }
        forms = [[form for letter in question.letters for form in known[letter]] for question in asked]
        groups = _alike(prompts, self.batch_tokens // 4)
        sums = kept_sums(
            self.policy.model,
            [_together([prompts[i] for i in group], [forms[i] for i in group]) for group in groups],
            pad=self.policy.pad_token,
            use_packing=can_pack(self.policy.model),
            tokens_per_batch=self.batch_tokens,
        )
        found: dict[int, Floats] = {}
        for group, row in zip(groups, sums, strict=True):
            parts = np.split(np.asarray(row), np.cumsum([len(forms[i]) for i in group])[:-1])
            found |= {i: logsumexp(part.reshape(-1, 2), axis=1) for i, part in zip(group, parts, strict=True)}
        return [found[i] for i in range(len(prompts))]

    def _prompt(self, question: Shown) -> tuple[int, ...]:
        from penchant.policies.rendering import prompt_text, prompt_tokens

        tokenizer = self.policy.tokenizer
        turns = [message for message in question.messages if message["role"] != "system"]
        if not tokenizer.chat_template:
            parts = [question.system, *(str(turn["content"]) for turn in turns)]
            return prompt_tokens(tokenizer, "\n\n".join(part for part in parts if part) + "\n<answer>")
        written = canonical_json([dict(turn) for turn in turns])
        text = prompt_text(tokenizer, written, condition=question.system or None, form="messages")
        return tuple(tokenizer(text + "<answer>", add_special_tokens=False)["input_ids"])


def _alike(prompts: Sequence[tuple[int, ...]], budget: int) -> list[list[int]]:
    """Prompts in groups that begin alike, of about `budget` tokens that have to be computed."""
    groups: list[list[int]] = []
    free, last = 0, prompts[0][:0] if prompts else ()
    for i in sorted(range(len(prompts)), key=lambda i: prompts[i]):
        new = len(prompts[i]) - _n_shared([last, prompts[i]])
        if not groups or new > free:
            groups.append([])
            free, new = budget, len(prompts[i])
        groups[-1].append(i)
        free, last = free - new, prompts[i]
    return groups


def _n_shared(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all begin with."""
    return next(
        (i for i, column in enumerate(zip(*sequences, strict=False)) if len(set(column)) > 1), min(map(len, sequences))
    )


def _together(prompts: Sequence[tuple[int, ...]], forms: Sequence[Sequence[tuple[int, ...]]]) -> "Example":
    """Several questions as one example, so that what they begin with is computed once."""
    from penchant.policies.sequences import Example

    # The prompt must end before the shortest question does: what follows is given, and the letters are predicted.
    shared = _n_shared([prompt[:-1] for prompt in prompts])
    responses = [(*prompt[shared:], *form) for prompt, own in zip(prompts, forms, strict=True) for form in own]
    given = [len(prompt) - shared for prompt, own in zip(prompts, forms, strict=True) for _ in own]
    return Example(prompts[0][:shared], tuple(responses), tuple(given))


class RewardJudge:
    """A reward that sees one response at a time: the highest is chosen, and equal ones share the choice.

    Args:
        name: of the judge.
        reward: prompts and responses, [n] each -> a number for each, [n].
    """

    reads_prompts = False
    varies = False

    def __init__(self, name: str, reward: Reward):
        self.name, self.reward = name, reward

    def judge(self, asked: Sequence[Shown], *, seed: int = 0) -> list[Judgement]:
        """As `Judge.judge`; the seed changes nothing. A reward that is not finite makes the judgement invalid."""
        parts = [question.apart for question in asked]
        prompts = [prompt for prompt, responses in parts for _ in responses]
        flat = np.asarray(self.reward(prompts, [text for _, responses in parts for text in responses]), np.float64)
        if flat.shape != (len(prompts),):
            raise SettingsError(f"{self.name} gave rewards of shape {flat.shape} for {len(prompts)} responses.")
        rows = np.split(flat, np.cumsum([len(responses) for _, responses in parts])[:-1])
        return [
            Judgement((row == row.max()) / (row == row.max()).sum() if np.isfinite(row).all() else None, str(row))
            for row in rows
        ]


class Similarity:
    """Cosine of a prompt's and a response's vector, as a reward: what is about the same counts as good.

    Args:
        encoder: texts -> vectors.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Floats:
        """Cosines, float64[n]."""
        texts = list(dict.fromkeys([*prompts, *responses]))
        vectors: Any = np.asarray(self.encoder.encode(texts), np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        place = {text: i for i, text in enumerate(texts)}
        first, second = ([place[text] for text in side] for side in (prompts, responses))
        cosines: Floats = (vectors[first] * vectors[second]).sum(axis=1)
        return cosines
