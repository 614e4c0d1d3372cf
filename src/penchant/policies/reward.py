"""A language model that says how good a response is: one number, read off its last token.

The backbone of a reward model that is fine-tuned end to end, LoRA or full (`penchant.align.RewardModel` trains it). It
is the sequence classifier of transformers with one label, so what `save` writes loads elsewhere. Once trained, it is
also an encoder: `BradleyTerry(encoder=HiddenState(LanguageReward.saved(folder)))` puts a reward for each person on it.

```python
reward = LanguageReward(lora_rank=8)
train(RewardModel(), reward, comparisons, settings=TrainerSettings(steps=100), folder=folder)
reward.rewards(["Name a colour."], [["Red.", "Seven."]])
```

Source:
    Stiennon et al. 2020, "Learning to summarize from human feedback", section 3.4 and appendix B.1: a linear head on
    the final token, its first weights drawn with variance 1 / (dim + 1).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from penchant.errors import SettingsError
from penchant.policies.pretrained import Condition, Forms, Pretrained, evaluating, groups_of
from penchant.policies.sequences import Batch, bare_model, can_pack, last_tokens, model_inputs, packed, padded


def response_rewards(model: nn.Module, batch: Batch) -> Tensor:
    """The number the head gives at the last token of each response; differentiable.

    Args:
        model: a sequence classifier of transformers with one label and its head in `score`, bare, with adapters or
            wrapped for data parallelism.
        batch: from `padded` or `packed`.

    Returns:
        float32[n_responses], the same for every form and size of batch (up to rounding).
    """
    inputs = model_inputs(model, batch)
    with _outputs_of(_head(model)) as seen:
        model(**inputs)  # its own pooling is not used: it knows one response a row
    rows, columns = (where.to(seen[0].device) for where in last_tokens(batch))
    return seen[0][rows, columns, 0].float()


class LanguageReward(Pretrained):
    """A language model with a scalar head; see `Pretrained` for settings."""

    task = "SEQ_CLS"

    def _prepare(self, seed: int) -> None:
        head = _head(self.model)
        if head.weight.shape[0] != 1:
            raise SettingsError(f"{self.name!r} gives {head.weight.shape[0]} numbers for a text; a reward is one.")
        self.model.config.pad_token_id = self.pad_token  # its pooling refuses several rows without
        if not any(name.endswith("ForSequenceClassification") for name in _architectures(self.name, self.model)):
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(head.weight.shape, generator=generator) * (head.weight.shape[1] + 1) ** -0.5
            with torch.no_grad():
                head.weight.copy_(drawn)

    @property
    def can_pack(self) -> bool:
        """Whether packed batches give this model's exact values."""
        return can_pack(self.model, response_rewards)

    def scores(self, model: Any, batch: Batch) -> Tensor:
        """What an aligner's loss reads of a batch: a reward for every response, float32[n_responses]."""
        return response_rewards(model, batch)

    def rewards(
        self,
        prompts: Sequence[str],
        responses: Sequence[Sequence[str]],
        *,
        condition: Condition = None,
        form: Forms = "text",
        batch_tokens: int = 4096,
    ) -> list[list[float]]:
        """How good each response is, in logits up to a constant of its prompt; without gradients.

        Args:
            prompts: what people wrote, or JSON lists of messages.
            responses: one or more for each prompt.
            condition: text for the system message, for all prompts or one for each.
            form: "text" or "messages", for all prompts or one for each.
            batch_tokens: about how many tokens to compute at once.

        Raises:
            DataError: there is not one list of responses for each prompt, or one is empty or too long.
        """
        examples = self.encode_all(prompts, responses, condition=condition, form=form)
        found: list[list[float]] = [[] for _ in examples]
        join = packed if self.can_pack else padded
        with evaluating(self.model):
            for chosen in groups_of([example.n_tokens for example in examples], batch_tokens):
                batch = join([examples[i] for i in chosen], pad=self.pad_token)
                for i, value in zip(
                    (chosen[place] for place in batch["example"].tolist()),
                    response_rewards(self.model, batch).tolist(),
                    strict=True,
                ):
                    found[i].append(value)
        return found


def _architectures(name: str, model: Any) -> list[str]:
    """What kinds of model the weights were saved as, before a head was put on them."""
    from transformers import AutoConfig

    from penchant.policies.pretrained import folder_of

    return list(AutoConfig.from_pretrained(folder_of(name), trust_remote_code=False).architectures or [])


def _head(model: Any) -> Any:
    head = getattr(bare_model(model), "score", None)
    if head is None:
        raise SettingsError(f"{type(bare_model(model)).__name__} has no head `score` that gives a reward.")
    return head


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """While open, the last output of a module is in the list."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        seen[:] = [output]

    hook = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
