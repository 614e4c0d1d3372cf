"""Exact log-probabilities of responses under a causal language model, with nothing computed twice.

An `Example` is a prompt and the responses to it, as token ids. It becomes a batch in one of two forms that give the
same numbers: `padded`, one row for every prompt + response, or `packed`, where the responses are the branches of a tree
that lies in one row: what several of them begin with (the prompt, an earlier turn, a common first sentence) stands
there once, each token sees what leads to it only, and positions count along the branch. Against two padded rows a pair
saves 2(P+C)/(P+2C) of the tokens, k responses k(P+C)/(P+kC), and nothing is padded.

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
>>> conversation = Example(prompt=(1, 2), responses=((3,), (3, 4, 5)), given=(0, 2))  # 4 is the follow-up question
>>> packed([conversation], pad=0)["input_ids"].tolist()
[[1, 2, 3, 4, 5]]
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NotRequired, TypedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from penchant.errors import DataError, SettingsError
from penchant.policies import attention
from penchant.policies.prefix_tree import PrefixTree

# So many logits (256 MiB in float32) are made at once; more are made in parts, and made again for their gradient.
_LARGEST_LOGITS = 2**26
# Examples of one prompt share a row up to so many tokens: attention within a row is quadratic.
_LONGEST_SHARED_ROW = 2048


@dataclass(frozen=True)
class Example:
    """A prompt and the responses to it, as token ids.

    Attributes:
        prompt: at least one token: the first token of a response is predicted from the prompt's last.
        responses: one or more, each with at least one token to predict.
        given: how many leading tokens of each response are context that is not predicted; () means none of any. In a
            conversation they are the turns between the prompt and the turn that is predicted; elsewhere they are 0,
            unless tokenising another response merged the end of the prompt into its start.

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
    def tree(self) -> PrefixTree:
        """The packed form: what the responses begin with once, then where they part."""
        return PrefixTree([(*self.prompt, *response) for response in self.responses])

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of the packed form."""
        return len(self.tree)


class Batch(TypedDict):
    """Tensors of one forward pass; at run time a plain dictionary, as trainers expect.

    Responses are numbered through the batch in the order of the examples, whatever rows they were put in.

    Keys:
        input_ids: tokens, int64[rows, width].
        attention_mask: padded: 1 for tokens, 0 for padding, int64[rows, width]; packed: whether a token (third axis)
            sees another (fourth), bool[rows, 1, width, width].
        position_ids: int64[rows, width].
        response: of each token that is predicted the number of its response, ascending, int64[tokens].
        row: where it stands, int64[tokens].
        column: likewise.
        predictor: column of the token that predicts it (of a branch's first token the one where it leaves the trunk).
        example: the number of the example each response belongs to, int64[n_responses].
        n_responses: int64[].
        pieces: packed: what `attention.attend` computes together, int64[pieces, 5].
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    response: Tensor
    row: Tensor
    column: Tensor
    predictor: Tensor
    example: Tensor
    n_responses: Tensor
    pieces: NotRequired[Tensor]


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
class _Branch:
    """A response: its number in the batch, how many tokens come before it, and how many of these are its path."""

    number: int
    n_before: int


@dataclass(frozen=True)
class _Block:
    """A tree and the responses that are its branches, in the order of the tree's paths."""

    tree: PrefixTree
    branches: tuple[_Branch, ...]


def padded(examples: Sequence[Example], *, pad: int, side: Literal["right", "left"] = "right") -> Batch:
    """One row for each response, its prompt before it, filled up to the longest row.

    Args:
        examples: one or more.
        pad: token to fill with; any token will do, it is never seen.
        side: where to fill.

    Raises:
        DataError: there are no examples.
    """
    rows = [
        [_Block(PrefixTree([(*one.prompt, *response)]), (branch,))]
        for one, branches in _numbered(examples)
        for response, branch in zip(one.responses, branches, strict=True)
    ]
    return _fill(rows, examples, pad, side)


def packed(examples: Sequence[Example], *, pad: int, max_tokens: int | None = None) -> Batch:
    """Each prompt once, its responses behind it; several examples share a row under a block-diagonal mask.

    Examples of the very same prompt share it too.

    Args:
        examples: one or more.
        pad: token to fill with; it is seen by padding only.
        max_tokens: width that rows are filled up to; None: the longest example's, which wastes no attention.

    Raises:
        DataError: there are no examples, or one is longer than `max_tokens`.
    """
    blocks = _merged(_numbered(examples), _LONGEST_SHARED_ROW if max_tokens is None else max_tokens)
    longest = max(len(block.tree) for block in blocks)
    width = longest if max_tokens is None else max_tokens
    if longest > width:
        raise DataError(
            f"An example has {longest} tokens with all its responses, but a row may hold {width}; raise max_tokens or "
            "split the responses over several examples."
        )
    rows: list[list[_Block]] = []
    room: list[int] = []
    for block in sorted(blocks, key=lambda block: -len(block.tree)):  # first fit, longest first
        need = len(block.tree)
        fits = next((i for i, free in enumerate(room) if need <= free), None)
        if fits is None:
            rows.append([block])
            room.append(width - need)
        else:
            rows[fits].append(block)
            room[fits] -= need
    batch = _fill(rows, examples, pad, "right")
    batch["attention_mask"] = torch.stack([_row_mask(row, batch["input_ids"].shape[1]) for row in rows])[:, None]
    batch["pieces"] = torch.tensor([piece for r, row in enumerate(rows) for piece in _row_pieces(r, row)])
    return batch


def _numbered(examples: Sequence[Example]) -> list[tuple[Example, tuple[_Branch, ...]]]:
    if not examples:
        raise DataError("A batch needs at least one example; there are none.")
    found, first = [], 0
    for one in examples:
        branches = (_Branch(first + i, len(one.prompt) + given) for i, given in enumerate(one.given))
        found.append((one, tuple(branches)))
        first += len(one.responses)
    return found


def _merged(numbered: Sequence[tuple[Example, tuple[_Branch, ...]]], longest: int) -> list[_Block]:
    """A block for each example; those of one prompt share it while no more than `longest` tokens come together."""
    by_prompt: dict[tuple[int, ...], list[tuple[Example, tuple[_Branch, ...]]]] = {}
    for one, branches in numbered:
        by_prompt.setdefault(one.prompt, []).append((one, branches))
    blocks = []
    for of_prompt in by_prompt.values():
        while of_prompt:
            n_taken, n_tokens = 1, of_prompt[0][0].n_tokens
            for one, _ in of_prompt[1:]:
                n_tokens += one.n_tokens - len(one.prompt)
                if n_tokens > longest:
                    break
                n_taken += 1
            taken, of_prompt = of_prompt[:n_taken], of_prompt[n_taken:]
            tree = taken[0][0].tree
            if n_taken > 1:
                tree = PrefixTree([(*one.prompt, *response) for one, _ in taken for response in one.responses])
            blocks.append(_Block(tree, tuple(branch for _, branches in taken for branch in branches)))
    return blocks


def _fill(
    rows: Sequence[Sequence[_Block]], examples: Sequence[Example], pad: int, side: Literal["right", "left"]
) -> Batch:
    """The batch with a mask of padding."""
    sizes = [sum(len(block.tree) for block in row) for row in rows]
    shape = (len(rows), max(sizes))
    ids, position, mask = torch.full(shape, pad), torch.zeros(shape, dtype=torch.int64), torch.zeros(shape).long()
    predicted: list[tuple[int, Tensor]] = []  # number of the response; row, column and predictor, [3, tokens]
    for r, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        at = 0 if side == "right" else shape[1] - size
        mask[r, at : at + size] = 1
        for block in row:
            tree = block.tree
            end = at + len(tree)
            ids[r, at:end] = torch.tensor(tree.tokens)
            position[r, at:end] = torch.tensor(tree.positions)
            for path, branch in zip(tree.paths, block.branches, strict=True):
                columns = at + torch.tensor(path)
                here, before = columns[branch.n_before :], columns[branch.n_before - 1 : -1]
                predicted.append((branch.number, torch.stack([torch.full_like(here, r), here, before])))
            at = end
    predicted.sort(key=lambda one: one[0])
    lengths = torch.tensor([where.shape[1] for _, where in predicted])
    place_row, column, predictor = torch.cat([where for _, where in predicted], dim=1)
    counts = torch.tensor([len(example.responses) for example in examples])
    return Batch(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position,
        response=torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        row=place_row,
        column=column,
        predictor=predictor,
        example=torch.repeat_interleave(torch.arange(len(examples)), counts),
        n_responses=counts.sum(),
    )


def _row_mask(row: Sequence[_Block], width: int) -> Tensor:
    """Who sees whom, bool[width, width]: earlier tokens on the way to one's own.

    Padding sees padding, itself at least: a token that sees nothing would be 0/0.
    """
    mask = torch.zeros(width, width, dtype=torch.bool)
    at = 0
    for block in row:
        end = at + len(block.tree)
        mask[at:end, at:end] = torch.from_numpy(block.tree.sees())
        at = end
    mask[at:, at:] = True
    return mask.tril_()


def _row_pieces(number: int, row: Sequence[_Block]) -> Iterator[tuple[int, int, int, int, int]]:
    at = 0
    for block in row:
        trunk, groups = block.tree.trunk, block.tree.groups()
        yield number, at, at + trunk, at, at
        for start, end in groups:
            yield number, at + start, at + end, at, at + trunk
        at += len(block.tree)


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
    where = batch["row"].to(device), batch["predictor"].to(device)
    targets = batch["input_ids"][batch["row"], batch["column"]].to(device)
    values = _scores(model, model_inputs(model, batch), where, targets)
    return TokenLogProbabilities(values, batch["response"].to(device), int(batch["n_responses"]))


def last_tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    """Row and column of each response's last token, each int64[n_responses]."""
    last = torch.bincount(batch["response"], minlength=int(batch["n_responses"])).cumsum(0) - 1
    return batch["row"][last], batch["column"][last]


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """The arguments of a transformers model's forward pass on a batch, on the model's device."""
    device = next(model.parameters()).device
    mask = batch["attention_mask"].to(device)
    bare = bare_model(model)
    if "pieces" in batch and bare.config._attn_implementation == attention.NAME:
        mask = attention.with_pieces(mask, batch["pieces"], batch["position_ids"])
    elif mask.ndim == 4 and bare.config._attn_implementation == "eager":  # it adds the mask to its scores
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
    return _log_softmax_at(logits.flatten(0, 1) if seen else _selected(logits, shape, where), targets)


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


class _LogSoftmaxAt(torch.autograd.Function):
    """The log-probability of one token in each row, keeping the logits and nothing else of their size.

    The loss of torch keeps all log-probabilities beside the logits, and makes two more of that size for its gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """Of [rows, vocabulary] at [rows], float32[rows]."""
        total = torch.logsumexp(logits.float(), dim=1)
        ctx.save_for_backward(logits, targets, total)
        return logits.gather(1, targets[:, None])[:, 0].float() - total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of row i is g_i (1 at its target - probabilities)."""
        logits, targets, total = ctx.saved_tensors
        [gradient] = gradients
        found = logits.float().sub(total[:, None]).exp_().mul_(-gradient[:, None])
        found.scatter_add_(1, targets[:, None], gradient[:, None])
        return found.to(logits.dtype), None


def _log_softmax_at(logits: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = _LogSoftmaxAt.apply(logits, targets)  # type: ignore[no-untyped-call]
    return found


def _in_parts(head: nn.Module, hidden: Tensor, targets: Tensor, rows_at_once: int) -> Tensor:
    """Project a part at a time; for a gradient its logits are made once more instead of being kept."""

    def score(states: Tensor, tokens: Tensor) -> Tensor:
        return _log_softmax_at(head(states), tokens)

    parts = zip(torch.split(hidden, rows_at_once), torch.split(targets, rows_at_once), strict=True)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(score, *part, use_reentrant=False) for part in parts])
    return torch.cat([score(*part) for part in parts])


_WHY_NOT: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def can_pack(model: nn.Module, scores: Callable[[nn.Module, Batch], Tensor] | None = None) -> bool:
    """Whether packed batches give this model's exact values (by default its log-probabilities).

    Not so where a layer is not attention, where a kernel takes no free masks, or where positions do not come from
    `position_ids` (ALiBi). What the configuration does not say is tried out, once a model, on a few tokens. A model
    that cannot is read from padded rows, which give the same values in more time; a warning says so and why.
    """
    bare = bare_model(model)
    if bare not in _WHY_NOT:
        _WHY_NOT[bare] = _why_not(model, scores or (lambda model, batch: token_log_probabilities(model, batch).values))
        if _WHY_NOT[bare]:
            warnings.warn(
                f"{type(bare).__name__}: prompts are computed again for every response, in padded rows, because "
                f"{_WHY_NOT[bare]}. The numbers are the same; it takes longer.",
                stacklevel=2,
            )
    return not _WHY_NOT[bare]


def _why_not(model: nn.Module, values: Callable[[nn.Module, Batch], Tensor]) -> str:
    """Why packed batches would not give the values of padded ones; empty if they do."""
    bare = bare_model(model)
    config = bare.config.get_text_config()
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = set(getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"it has layers of other kinds than attention: {', '.join(sorted(kinds))}"
    if not accepts(bare, "position_ids"):
        return "it takes no position_ids"
    if bare.config._attn_implementation not in (attention.NAME, "sdpa", "eager"):
        return f"its attention {bare.config._attn_implementation!r} takes no mask of ours (load it with sdpa)"
    tokens = [7 * i % config.vocab_size for i in range(1, 16)]
    prompt, first, rest = tuple(tokens[:4]), tuple(tokens[4:7]), tuple(tokens[7:])
    trial = [Example(prompt, (first, rest, (*first, *rest[1:])), given=(0, 0, 4))]
    was_training = model.training
    model.eval()
    with torch.no_grad(), attention.watched() as windows:
        one, other = (values(model, form(trial, pad=0)) for form in (padded, packed))
    model.train(was_training)
    if "sliding_attention" in kinds and window not in windows:
        return f"its layers with a sliding window of {window} tokens use an attention of their own"
    tolerance = 1e-4 if bare.dtype in (torch.float32, torch.float64) else 0.1
    difference = float((one - other).abs().max())
    return "" if difference < tolerance else f"a trial gave other values (by {difference:.2g} nats)"


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
