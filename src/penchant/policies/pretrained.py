"""A language model from disk or hub: its weights, tokenizer and adapters, and the frozen start it came from.

What a policy and a reward model share: only safetensors are loaded, LoRA adapters are new or saved, the reference is
the same model with its adapters switched off (or loaded a second time), and texts become tokens in one way.
"""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch

from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.llama import SMALL_CHAT, gguf_file, is_gguf
from penchant.policies import attention, gguf, rendering
from penchant.policies.sequences import Example
from penchant.turns import Form

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Task = Literal["CAUSAL_LM", "SEQ_CLS"]  # as peft calls them: to write, or to give one number for a text
Condition = str | None | Sequence[str | None]
Forms = Form | Sequence[Form]
_NOTE = "penchant.json"  # beside saved weights: what they are, and the model that adapters belong to


def load(model: str, *, precision: Precision = "auto", task: Task = "CAUSAL_LM") -> tuple[Any, Any]:
    """A language model in evaluation mode, on the GPU if there is one, and its tokenizer.

    Args:
        model: "small-chat", a folder, a GGUF file or a name on the Hugging Face hub.
        precision: of the weights; "auto" is bfloat16 on a GPU that has it, and float32 on CPUs, most of which have
            bfloat16 in name only (50 times slower).
        task: "CAUSAL_LM" to write; "SEQ_CLS" for one number instead, from a new head where the model has none.

    Raises:
        UnknownNameError: there is no such model, or it has no safetensors; neither pickled weights nor code that
            comes with a model are ever loaded.
        MissingExtraError: "small-chat" is asked for, but its package is not installed.
        DataError: a GGUF file cannot be read, or the tokenizer does not tell where its tokens lie in a text.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    folder = folder_of(model)
    device = own_device()
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        kind: Any = AutoModelForCausalLM if task == "CAUSAL_LM" else AutoModelForSequenceClassification
        options = {} if task == "CAUSAL_LM" else {"num_labels": 1}
        with _without_remarks():
            loaded = kind.from_pretrained(
                folder, dtype=getattr(torch, precision), use_safetensors=True, trust_remote_code=False, **options
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
    attention.install(loaded)
    ready: Any = loaded
    return ready.to(device).eval(), tokenizer


def own_device() -> torch.device:
    """The GPU of this process, of those that torchrun started each its own; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def folder_of(model: str) -> str:
    """Where transformers finds a model; GGUF files, "small-chat" among them, are converted once.

    Raises:
        MissingExtraError: "small-chat" is asked for, but its package is not installed.
        DataError: a GGUF file cannot be read.
    """
    return str(gguf.converted(gguf_file(model))) if is_gguf(model) else model


class Pretrained:
    """A language model, its tokenizer, its adapters, and the frozen reference it started from.

    Args:
        model: "small-chat", a folder, a GGUF file or a name on the Hugging Face hub.
        lora_rank: rank of new adapters on all linear layers; None trains all weights.
        lora_alpha: their scale; None: twice the rank.
        adapter: folder of adapters that `save` wrote; their model is `model`.
        precision: of the weights; "auto" suits the machine.
        max_length: most tokens of prompt and response; None: what the model can read.
        seed: of the first weights of new adapters and heads.

    Attributes:
        model: of transformers, or of peft where there are adapters.
        tokenizer: of transformers.
        name: what `model` was given.

    Raises:
        SettingsError: adapters are both new and loaded, or belong to another model.
        DataError: there are no adapters as safetensors in the folder.
        UnknownNameError: there is no such model.
    """

    task: ClassVar[Task]

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
            self._require_adapters(Path(adapter))
        self.model, self.tokenizer = load(model, precision=precision, task=self.task)
        self._prepare(seed)
        if lora_rank is not None:
            self.model = _with_new_adapters(self.model, self.task, lora_rank, lora_alpha, seed)
        elif adapter is not None:
            self.model = _with_saved_adapters(self.model, Path(adapter))
        self.max_length = max_length or getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self._frozen: Any = None

    def _prepare(self, seed: int) -> None:
        """What a kind of model needs before it gets adapters."""

    @classmethod
    def saved(cls, folder: str | Path, **options: Any) -> Self:
        """What `save` wrote, whether adapters or a whole model; options as for the constructor.

        Raises:
            DataError: nothing of this kind is in the folder.
        """
        folder = Path(folder)
        if not (folder / "adapter_model.safetensors").is_file():
            if _note(folder).get("kind", cls.__name__) != cls.__name__:
                raise DataError(f"{str(folder)!r} holds a {_note(folder)['kind']}, not a {cls.__name__}.")
            return cls(str(folder), **options)
        model = _note(folder).get("model")
        if model is None:
            raise DataError(f"{str(folder)!r} does not say which model its adapters belong to: {_NOTE} is missing.")
        return cls(model, adapter=folder, **options)

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained rather than all weights."""
        return hasattr(self.model, "disable_adapter")

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a turn."""
        written = getattr(self.model, "generation_config", None)  # a model with a scalar head has none
        more = getattr(written, "eos_token_id", None)
        ends = {self.tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])}
        return frozenset(ends - {None})

    @property
    def pad_token(self) -> int:
        """Token to fill rows with; it is never seen."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(token for token in known if token is not None)

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """The frozen model this one started from: without its adapters, or loaded a second time.

        A model that trains all its weights starts from what `name` holds; if its folder is overwritten, so is this.
        """
        if self.has_adapters:
            with self.model.disable_adapter():
                yield self.model
            return
        if self._frozen is None:
            self._frozen = load(self.name, precision=self.precision, task=self.task)[0].requires_grad_(False)
        yield self._frozen

    def encode(
        self,
        prompt: str,
        responses: Sequence[str],
        *,
        condition: str | None = None,
        form: Form = "text",
        given: Sequence[int] = (),
    ) -> Example:
        """Token ids of a prompt and its responses, as `rendering.encode` makes them.

        Args:
            prompt: what a person wrote, or the JSON of a list of messages.
            responses: what was answered; each ends with the end-of-turn token.
            condition: text for the system message.
            form: "text" or "messages".
            given: how many leading messages of each response are not predicted; () is none.

        Raises:
            DataError: messages are malformed, or something is longer than `max_length`.
        """
        return rendering.encode(
            self.tokenizer,
            prompt,
            responses,
            condition=condition,
            form=form,
            given=given,
            end_tokens=self.end_tokens,
            max_length=self.max_length,
        )

    def encode_all(
        self,
        prompts: Sequence[str],
        responses: Sequence[Sequence[str]],
        *,
        condition: Condition = None,
        form: Forms = "text",
    ) -> list[Example]:
        """`encode` for each prompt; condition and form are one for all or one for each.

        Raises:
            DataError: as for `encode`; or there are not as many of one as of the other.
        """
        n = len(prompts)
        if len(responses) != n:
            raise DataError(f"There are {n} prompts and {len(responses)} lists of responses; give as many.")
        wishes, forms = one_for_each(condition, n, "conditions"), one_for_each(form, n, "forms")
        return [
            self.encode(prompt, answers, condition=wish, form=written)
            for prompt, answers, wish, written in zip(prompts, responses, wishes, forms, strict=True)
        ]

    def save(self, folder: str | Path, *, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        """Write the adapters, or the whole model where there are none, and the tokenizer; weights as safetensors.

        Args:
            folder: made if it is not there.
            weights: by name, where the model holds only a share of them.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # peft would ask the hub whether embeddings changed; adapters on linear layers never change them.
        adapters = {"save_embedding_layers": False} if self.has_adapters else {}
        self.model.save_pretrained(str(folder), state_dict=weights, **adapters)
        self.tokenizer.save_pretrained(str(folder))
        note = {"kind": type(self).__name__} | ({"model": self.name} if self.has_adapters else {})
        (folder / _NOTE).write_text(json.dumps(note), encoding="utf-8")

    def _require_adapters(self, folder: Path) -> None:
        if not (folder / "adapter_model.safetensors").is_file():
            raise DataError(f"There are no adapters in {str(folder)!r}: adapter_model.safetensors is missing.")
        made = {"model": self.name, "kind": type(self).__name__} | _note(folder)
        if made["model"] != self.name:
            raise SettingsError(
                f"The adapters in {str(folder)!r} belong to the model {made['model']!r}, not {self.name!r}."
            )
        if made["kind"] != type(self).__name__:
            raise SettingsError(
                f"The adapters in {str(folder)!r} are of a {made['kind']}, not a {type(self).__name__}."
            )


def one_for_each(given: Any, n: int, what: str) -> list[Any]:
    """A list of n: of the one thing given for all, or the things given for each.

    Raises:
        DataError: there are not n.

    >>> one_for_each("text", 2, "forms"), one_for_each(["a", None], 2, "conditions")
    (['text', 'text'], ['a', None])
    """
    if given is None or isinstance(given, str):
        return [given] * n
    if len(given) != n:
        raise DataError(f"There are {len(given)} {what} for {n} prompts; give one for all, or one for each.")
    return list(given)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout and gradients; the model's mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def groups_of(n_tokens: Sequence[int], budget: int) -> list[list[int]]:
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


def _note(folder: Path) -> dict[str, str]:
    path = folder / _NOTE
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Without the remark that a head is new, which is what was asked for."""
    from transformers import logging

    before = logging.get_verbosity()
    logging.set_verbosity(40)  # errors
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _peft() -> Iterator[Any]:
    """The module peft, without its remark that transformers has renamed a property that peft asks for."""
    import peft

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield peft


def _with_new_adapters(model: Any, task: Task, rank: int, alpha: float | None, seed: int) -> Any:
    if rank < 1:
        raise SettingsError(f"lora_rank must be at least 1, or None to train all weights: got {rank!r}.")
    devices = [model.device] if model.device.type == "cuda" else []
    with _peft() as peft, torch.random.fork_rng(devices):  # peft draws from torch's global generator
        torch.manual_seed(seed)
        settings = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules="all-linear", task_type=task
        )
        return peft.get_peft_model(model, settings).eval()


def _with_saved_adapters(model: Any, folder: Path) -> Any:
    with _peft() as peft:
        return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True, use_safetensors=True).eval()
