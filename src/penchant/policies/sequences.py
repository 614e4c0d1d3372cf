"""Exact log-probabilities of responses under a causal language model, with the prompt computed once.

An `Example` is a prompt and the responses to it, as token ids. It becomes a batch in one of two forms that give the
same numbers: `padded`, one row for every prompt + response, or `packed`, where all responses to a prompt stand behind
it in one row, each attends to the prompt and to itself only, and positions start again after the prompt. Against two
padded rows that saves 2(P+C)/(P+2C) of the tokens, for k responses k(P+C)/(P+kC), and nothing is padded.

Only the hidden states that predict a response's token meet the vocabulary; the [tokens, vocabulary] matrix of a whole
batch never exists. This works inside the model's own forward pass, so whatever a model does to its logits (scaling,
soft caps), adapters, and data-parallel wrappers stay in force.

>>> question = Example(prompt=(1, 2, 3), responses=((4, 5), (6,)))
>>> padded([question], pad=0)["input_ids"].tolist()
[[1, 2, 3, 4, 5], [1, 2, 3, 6, 0]]
>>> both = packed([question], pad=0)
>>> both["input_ids"].tolist(), both["position_ids"].tolist()
([[1, 2, 3, 4, 5, 6]], [[0, 1, 2, 3, 4, 3]])
>>> both["attention_mask"][0, 0, 5].tolist()  # the second response does not see the first
[True, True, True, False, False, True]
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from penchant.errors import DataError, SettingsError

IGNORED = -100
# So many logits (256 MiB in float32) are made at once; more are made in parts, and made again for their gradient.
_LARGEST_LOGITS = 2**26


@dataclass(frozen=True)
class Example:
    """A prompt and the responses to it, as token ids.

    Attributes:
        prompt: at least one token: the first token of a response is predicted from the prompt's last.
        responses: one or more, each with at least one token to predict.
        given: how many leading tokens of each response are context that is not predicted; () means none of any. It
            is not 0 where tokenising another response of this prompt merged the end of the prompt into its start.

    Raises:
        DataError: the prompt, the list of responses or what is to be predicted of a response is empty.
    """

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    given: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is something to predict, and something to predict it from."""
        if not self.prompt:
            raise DataError("A prompt has no tokens, so nothing predicts the first token of its responses.")
        if not self.responses:
            raise DataError(f"A prompt of {len(self.prompt)} tokens has no responses; give it at least one.")
        if self.given and len(self.given) != len(self.responses):
            raise DataError(f"There are {len(self.given)} values of `given` for {len(self.responses)} responses.")
        object.__setattr__(self, "given", self.given or (0,) * len(self.responses))
        empty = [i for i, (r, g) in enumerate(zip(self.responses, self.given, strict=True)) if not 0 <= g < len(r)]
        if empty:
            raise DataError(
                f"{len(empty)} of {len(self.responses)} responses, first response {empty[0]}, have no token to predict "
                f"(prompt of {len(self.prompt)} tokens). Drop empty responses, or end each with an end-of-turn token."
            )

    @property
    def n_tokens(self) -> int:
        """Tokens of the packed form: the prompt once and every response."""
        return len(self.prompt) + sum(map(len, self.responses))


class Batch(TypedDict):
    """Tensors of one forward pass; at run time a plain dictionary, as trainers expect.

    Responses are numbered through the batch in the order of the examples, whatever rows they were put in.

    Keys:
        input_ids: tokens, int64[rows, width].
        attention_mask: padded: 1 for tokens, 0 for padding, int64[rows, width]; packed: whether a token (third axis)
            sees another (fourth), bool[rows, 1, width, width].
        position_ids: int64[rows, width].
        labels: the token itself where it is to be predicted, else -100, int64[rows, width].
        response: the number of the response a predicted token belongs to, else -1, int64[rows, width].
        predictor: column of the token that predicts this one (for a packed response's first token the prompt's last),
            0 where nothing is predicted, int64[rows, width].
        example: the number of the example each response belongs to, int64[n_responses].
        n_responses: int64[].
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor
    response: Tensor
    predictor: Tensor
    example: Tensor
    n_responses: Tensor


@dataclass(frozen=True)
class TokenLogProbabilities:
    """Log-probability of every predicted token of a batch, response after response.

    Attributes:
        values: nats, float32[tokens].
        response: the number of the response each token belongs to, ascending, int64[tokens].
        n_responses: how many responses there are.
    """

    values: Tensor
    response: Tensor
    n_responses: int

    def sums(self) -> Tensor:
        """Log-probability of each whole response, nats, float32[n_responses]."""
        return self.values.new_zeros(self.n_responses).index_add(0, self.response, self.values)

    def means(self) -> Tensor:
        """Log-probability per token of each response, nats, float32[n_responses]."""
        return self.sums() / self.lengths()

    def lengths(self) -> Tensor:
        """Predicted tokens of each response, int64[n_responses]."""
        return torch.bincount(self.response, minlength=self.n_responses)


@dataclass(frozen=True)
class _Block:
    """A prompt with some of its responses, the first of which has the number `first` in the batch."""

    example: Example
    first: int


def padded(examples: Sequence[Example], *, pad: int, side: Literal["right", "left"] = "right") -> Batch:
    """One row for each response, its prompt before it, filled up to the longest row.

    Args:
        examples: one or more.
        pad: token to fill with; any token will do, it is never seen.
        side: where to fill.

    Raises:
        DataError: there are no examples.
    """
    rows = []
    for block in _blocks(examples):
        one = block.example
        for i, (response, given) in enumerate(zip(one.responses, one.given, strict=True)):
            rows.append([_Block(Example(one.prompt, (response,), (given,)), block.first + i)])
    batch, _ = _fill(rows, examples, pad, side)
    return batch


def packed(examples: Sequence[Example], *, pad: int, max_tokens: int | None = None) -> Batch:
    """Each prompt once, its responses behind it; several examples share a row under a block-diagonal mask.

    Args:
        examples: one or more.
        pad: token to fill with; it is seen by padding only.
        max_tokens: width that rows are filled up to; None: the longest example's, which wastes no attention.

    Raises:
        DataError: there are no examples, or one is longer than `max_tokens`.
    """
    blocks = _blocks(examples)
    longest = max(example.n_tokens for example in examples)
    width = longest if max_tokens is None else max_tokens
    if longest > width:
        raise DataError(
            f"An example has {longest} tokens with all its responses, but a row may hold {width}; raise max_tokens or "
            "split the responses over several examples."
        )
    rows: list[list[_Block]] = []
    room: list[int] = []
    for block in sorted(blocks, key=lambda block: -block.example.n_tokens):  # first fit, longest first
        need = block.example.n_tokens
        fits = next((i for i, free in enumerate(room) if need <= free), None)
        if fits is None:
            rows.append([block])
            room.append(width - need)
        else:
            rows[fits].append(block)
            room[fits] -= need
    batch, places = _fill(rows, examples, pad, "right")
    batch["attention_mask"] = _block_mask(*places)
    return batch


def _blocks(examples: Sequence[Example]) -> list[_Block]:
    if not examples:
        raise DataError("A batch needs at least one example; there are none.")
    blocks, first = [], 0
    for example in examples:
        blocks.append(_Block(example, first))
        first += len(example.responses)
    return blocks


def _fill(
    rows: Sequence[Sequence[_Block]], examples: Sequence[Example], pad: int, side: Literal["right", "left"]
) -> tuple[Batch, tuple[Tensor, Tensor]]:
    """The batch with a mask of padding, and of each token its block within the row and its response (-1: prompt)."""
    sizes = [sum(block.example.n_tokens for block in row) for row in rows]
    shape = (len(rows), max(sizes))
    ids, position = torch.full(shape, pad), torch.zeros(shape, dtype=torch.int64)
    owner, branch, response = (torch.full(shape, -1) for _ in range(3))
    predictor = torch.zeros(shape, dtype=torch.int64)
    for r, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        at = 0 if side == "right" else shape[1] - size
        for b, block in enumerate(row):
            one = block.example
            owner[r, at : at + one.n_tokens] = b
            split = at + len(one.prompt)
            ids[r, at:split] = torch.tensor(one.prompt)
            position[r, at:split] = torch.arange(len(one.prompt))
            at = split
            for i, (tokens, given) in enumerate(zip(one.responses, one.given, strict=True)):
                end = at + len(tokens)
                ids[r, at:end] = torch.tensor(tokens)
                position[r, at:end] = len(one.prompt) + torch.arange(len(tokens))
                branch[r, at:end] = block.first + i
                response[r, at + given : end] = block.first + i
                predictor[r, at:end] = torch.arange(at - 1, end - 1)
                predictor[r, at] = split - 1  # the prompt's last token predicts the first one of every response
                at = end
    counts = torch.tensor([len(example.responses) for example in examples])
    batch = Batch(
        input_ids=ids,
        attention_mask=(owner >= 0).long(),
        position_ids=position,
        labels=torch.where(response >= 0, ids, IGNORED),
        response=response,
        predictor=torch.where(response >= 0, predictor, 0),
        example=torch.repeat_interleave(torch.arange(len(examples)), counts),
        n_responses=counts.sum(),
    )
    return batch, (owner, branch)


def _block_mask(owner: Tensor, branch: Tensor) -> Tensor:
    """Who sees whom, bool[rows, 1, width, width]: earlier tokens of the same block, of the prompt or one's response.

    Padding sees padding, itself at least: a token that sees nothing would be 0/0.
    """
    same_block = owner[:, :, None] == owner[:, None, :]
    in_reach = (branch[:, None, :] == -1) | (branch[:, :, None] == branch[:, None, :])
    earlier = torch.ones(owner.shape[1], owner.shape[1], dtype=torch.bool).tril()
    return (same_block & in_reach & earlier)[:, None]


def token_log_probabilities(model: nn.Module, batch: Batch) -> TokenLogProbabilities:
    """Log-probability of every response token given what stands before it; exact, in float32 and differentiable.

    Args:
        model: a causal language model of transformers, bare, with adapters or wrapped for data parallelism. Packed
            batches need one for which `can_pack` holds.
        batch: from `padded` or `packed`.

    Returns:
        The same values, in the same order, for every form and size of batch (up to rounding).

    Raises:
        SettingsError: the model gives logits for other positions than the batch has tokens.
    """
    device = next(model.parameters()).device
    rows, columns = (batch["response"] >= 0).nonzero(as_tuple=True)
    response, order = batch["response"][rows, columns].sort(stable=True)
    rows, columns = rows[order], columns[order]
    where = rows.to(device), batch["predictor"][rows, columns].to(device)
    targets = batch["labels"][rows, columns].to(device)
    values = _scores(model, model_inputs(model, batch), where, targets)
    return TokenLogProbabilities(values, response.to(device), int(batch["n_responses"]))


def last_tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    """Row and column of each response's last token, each int64[n_responses]."""
    rows, columns = (batch["response"] >= 0).nonzero(as_tuple=True)
    response, order = batch["response"][rows, columns].sort(stable=True)  # columns ascend within a response
    last = order[torch.bincount(response, minlength=int(batch["n_responses"])).cumsum(0) - 1]
    return rows[last], columns[last]


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """The arguments of a transformers model's forward pass on a batch, on the model's device."""
    device = next(model.parameters()).device
    mask = batch["attention_mask"].to(device)
    bare = bare_model(model)
    if mask.ndim == 4 and bare.config._attn_implementation == "eager":  # it adds the mask to its scores
        mask = torch.zeros(mask.shape, dtype=bare.dtype, device=device).masked_fill(~mask, torch.finfo(bare.dtype).min)
    arguments = {"input_ids": batch["input_ids"].to(device), "attention_mask": mask, "use_cache": False}
    if accepts(bare, "position_ids"):
        arguments["position_ids"] = batch["position_ids"].to(device)
    return arguments


def _scores(model: nn.Module, arguments: dict[str, Any], where: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    """Log-probabilities of the targets, [tokens], where `where` are the rows and columns that predict them."""
    shape = arguments["input_ids"].shape
    head = bare_model(model).get_output_embeddings()
    if head is None:
        return _log_softmax_at(_selected(model(**arguments).logits, shape, where), targets)
    rows_at_once = max(1, _LARGEST_LOGITS // head.weight.shape[0])
    if len(targets) > rows_at_once:
        with _only_at(head, shape, where, first_only=True) as seen:
            logits = model(**arguments).logits
        # A model may scale or cap its logits behind the head; then only the model itself can make them.
        if seen and torch.equal(head(seen[0][None, :1]).to(logits.dtype), logits):
            return _in_parts(head, seen[0], targets, rows_at_once)
        del logits, seen
    with _only_at(head, shape, where) as seen:
        logits = model(**arguments).logits
    return _log_softmax_at(logits[0] if seen else _selected(logits, shape, where), targets)


@contextmanager
def _only_at(
    head: nn.Module, shape: torch.Size, where: tuple[Tensor, Tensor], first_only: bool = False
) -> Iterator[list[Tensor]]:
    """While open, the head projects only the hidden states at `where` (or the first of them), as one row.

    Yields:
        A list that holds those hidden states, [tokens, dim], once the model has run; it stays empty where the head
        is not called on [rows, width, dim], and then the model's logits are whole.
    """
    seen: list[Tensor] = []

    def select(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not arguments or arguments[0].shape[:2] != shape:
            return None
        seen[:] = [arguments[0][where]]
        return (seen[0][None, :1] if first_only else seen[0][None], *arguments[1:])

    hook = head.register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        hook.remove()


def _selected(logits: Tensor, shape: torch.Size, where: tuple[Tensor, Tensor]) -> Tensor:
    if logits.shape[:2] != shape:
        raise SettingsError(
            f"The model gave logits for {tuple(logits.shape[:2])} positions of {tuple(shape)} tokens; adapters that "
            "add tokens of their own (prompt or prefix tuning) are not supported, use LoRA."
        )
    return logits[where]


def _log_softmax_at(logits: Tensor, targets: Tensor) -> Tensor:
    return -cross_entropy(logits.float(), targets, reduction="none")


def _in_parts(head: nn.Module, hidden: Tensor, targets: Tensor, rows_at_once: int) -> Tensor:
    """Project a part at a time; for a gradient its logits are made once more instead of being kept."""

    def score(states: Tensor, tokens: Tensor) -> Tensor:
        return _log_softmax_at(head(states), tokens)

    parts = zip(torch.split(hidden, rows_at_once), torch.split(targets, rows_at_once), strict=True)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(score, *part, use_reentrant=False) for part in parts])
    return torch.cat([score(*part) for part in parts])


_CAN_PACK: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def can_pack(model: nn.Module, scores: Callable[[nn.Module, Batch], Tensor] | None = None) -> bool:
    """Whether packed batches give this model's exact values (by default its log-probabilities).

    Not so where attention is not dense (a sliding window, recurrent layers, a kernel without free masks) or where
    positions do not come from `position_ids` (ALiBi). What the configuration does not say is tried out, once a model,
    on a few tokens.
    """
    bare = bare_model(model)
    values = scores or (lambda model, batch: token_log_probabilities(model, batch).values)
    config = bare.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    dense = set(kinds) <= {"full_attention"} if kinds else getattr(config, "sliding_window", None) is None
    if not (dense and config._attn_implementation in ("sdpa", "eager") and accepts(bare, "position_ids")):
        return False
    if bare not in _CAN_PACK:
        tokens = [7 * i % config.vocab_size for i in range(1, 13)]
        trial = [Example(tuple(tokens[:4]), (tuple(tokens[4:7]), tuple(tokens[7:12])))]
        was_training = model.training
        model.eval()
        with torch.no_grad():
            one, other = (values(model, form(trial, pad=0)) for form in (padded, packed))
        model.train(was_training)
        tolerance = 1e-4 if bare.dtype in (torch.float32, torch.float64) else 0.1
        _CAN_PACK[bare] = bool((one - other).abs().max() < tolerance)
    return _CAN_PACK[bare]


def bare_model(model: Any) -> Any:
    """The transformers model inside wrappers for data parallelism and compilation."""
    while not hasattr(model, "get_output_embeddings"):
        inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if inner is None:
            raise SettingsError(f"{type(model).__name__} is not a causal language model of transformers.")
        model = inner
    return model


def accepts(model: Any, argument: str) -> bool:
    """Whether a transformers model's forward pass has an argument of this name."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    return argument in inspect.signature(bare.forward).parameters
