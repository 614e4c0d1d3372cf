"""Attention over packed rows equals attention under the whole dense mask."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from penchant.policies import attention
from penchant.policies.sequences import Example, packed

EXAMPLES = [
    Example(tuple(range(1, 8)), ((1, 2, 3), (1, 2, 4, 5), (6,))),
    Example((3, 4), ((5, 6), (5, 6, 7, 8)), given=(0, 2)),
    Example(tuple(range(9)), ((1,),)),
]


@pytest.mark.parametrize("window", [None, 4, 500])
@pytest.mark.parametrize("strip", [3, 128])
@pytest.mark.parametrize("max_tokens", [None, 40])
def test_pieces_give_the_values_and_gradients_of_the_dense_mask(window, strip, max_tokens, monkeypatch):
    monkeypatch.setattr(attention, "_STRIP", strip)
    batch = packed(EXAMPLES, pad=0, max_tokens=max_tokens)
    mask, position = batch["attention_mask"], batch["position_ids"]
    rows, width = position.shape
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(rows, heads, width, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads in (4, 2, 2)
    )
    near = position[:, None, :, None] - position[:, None, None, :] < (window or width)
    dense = scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), attn_mask=mask & near, scale=0.3
    ).transpose(1, 2)
    carrier = attention.with_pieces(mask, batch["pieces"], position)
    found, _ = attention.attend(nn.Module(), query, key, value, carrier, scaling=0.3, sliding_window=window)
    real = torch.zeros(rows, width, dtype=torch.bool)
    for row, start, end, *_ in batch["pieces"].tolist():
        real[row, start:end] = True
    torch.testing.assert_close(found[real], dense[real])
    assert not found[~real].any()
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64) * real[..., None, None]
    expected = torch.autograd.grad((dense * weights).sum(), (query, key, value))
    for got, wanted in zip(torch.autograd.grad((found * weights).sum(), (query, key, value)), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_mask_without_pieces_goes_to_the_attention_the_model_had():
    query = torch.randn(1, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    module = nn.Module()
    module.is_causal = True
    found, _ = attention.attend(module, query, query, query, None, scaling=0.5)
    expected = scaled_dot_product_attention(query, query, query, is_causal=True, scale=0.5)
    torch.testing.assert_close(found, expected.transpose(1, 2))
