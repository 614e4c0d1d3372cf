from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from penchant.policies.branching import Branches, attend

WIDTH, DIM, VALUE_DIM, HEADS, GROUPS = 7, 8, 6, 6, 2


class Past:
    """Branches, and beside them what every sample would have if it had a copy of its prompt."""

    def __init__(self, n_prompts: int, n: int, n_steps: int, lengths: list[int]):
        generator = torch.Generator().manual_seed(0)
        self.random = lambda *shape: torch.randn(*shape, generator=generator)
        keys, values = (self.random(n_prompts, GROUPS, WIDTH, dim) for dim in (DIM, VALUE_DIM))
        mask = torch.tensor([[0] * (WIDTH - length) + [1] * length for length in lengths])
        layer = SimpleNamespace(keys=keys, values=values)
        self.branches = Branches(SimpleNamespace(layers=[layer]), mask, n, n_steps)
        self.keys, self.values, self.seen = (states.repeat_interleave(n, 0) for states in (keys, values, mask.bool()))

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What a token of each sample reads, by branches and by plain attention to copies."""
        rows = len(self.keys)
        fresh = self.random(rows, GROUPS, 1, DIM), self.random(rows, GROUPS, 1, VALUE_DIM)
        query = self.random(rows, HEADS, 1, DIM)
        keys, values = self.branches.update(*fresh, 0)
        found, _ = attend(torch.nn.Module(), query, keys, values, None, scaling=0.3)
        self.keys, self.values = (torch.cat(pair, 2) for pair in zip((self.keys, self.values), fresh, strict=True))
        self.seen = torch.cat([self.seen, torch.ones(rows, 1, dtype=torch.bool)], 1)
        plain = scaled_dot_product_attention(
            query, self.keys, self.values, attn_mask=self.seen[:, None, None], scale=0.3, enable_gqa=True
        )
        return found, plain.transpose(1, 2)

    def keep(self, kept: list[bool]) -> None:
        order = self.branches.keep(torch.tensor(kept))
        assert sorted(order.tolist()) == [row for row, stays in enumerate(kept) if stays]
        self.keys, self.values, self.seen = self.keys[order], self.values[order], self.seen[order]


@pytest.mark.parametrize(("n_prompts", "lengths"), [(1, [7]), (3, [7, 4, 1])])
def test_samples_read_what_they_would_read_in_copies_of_their_prompts(n_prompts, lengths):
    past = Past(n_prompts, 4, 70, lengths)
    for _ in range(70):  # beyond the room that is made at first
        torch.testing.assert_close(*past.step(), atol=1e-5, rtol=1e-5)


def test_whoever_ends_the_others_read_on_undisturbed():
    past = Past(4, 3, 20, [7, 5, 6, 2])
    chance = torch.Generator().manual_seed(1)
    sizes = []
    while len(past.keys) > 1:
        torch.testing.assert_close(*past.step(), atol=1e-5, rtol=1e-5)
        kept = torch.rand(len(past.keys), generator=chance) < 0.8
        if kept.any() and not kept.all():
            past.keep(kept.tolist())
        sizes.append(past.branches._own[0]._prompts[0].shape[0])
    torch.testing.assert_close(*past.step(), atol=1e-5, rtol=1e-5)
    assert sizes[0] == 4
    assert sizes[-1] == 1  # prompts without samples do not stay in memory


def test_what_a_model_wants_of_its_attention_is_computed_or_refused():
    past = Past(1, 2, 4, [7])
    query, fresh = torch.randn(2, HEADS, 1, DIM), torch.randn(2, GROUPS, 1, DIM)
    keys, values = past.branches.update(fresh, torch.randn(2, GROUPS, 1, VALUE_DIM), 0)
    with pytest.raises(NotImplementedError, match="softcap"):
        attend(torch.nn.Module(), query, keys, values, None, softcap=30.0)
    with pytest.raises(NotImplementedError, match="keys of another form"):
        attend(torch.nn.Module(), query, keys.clone(), values, None)
    usual, _ = attend(torch.nn.Module(), query, keys, values, None)
    scaled, _ = attend(torch.nn.Module(), query, keys, values, None, scaling=DIM**-0.5)
    assert torch.equal(usual, scaled)
