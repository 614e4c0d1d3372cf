"""What is computed again is the same, random numbers included, and takes less memory."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from penchant.align.recompute import cheap_contexts

MODELS = {
    "dropout in attention": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            attention_dropout=0.3,
        )
    ),
    "no dropout": lambda: LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2)
    ),
    "dropout everywhere": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2)),
}


def kept_and_gradient(model, recompute):
    """Bytes that autograd keeps of a forward pass, and the gradient."""
    if recompute:
        model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": cheap_contexts})
    ids = torch.arange(40).reshape(2, 20)
    n_bytes = {}

    def keep(tensor):
        n_bytes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(3)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    if recompute:
        model.activation_checkpointing_disable()
    return sum(n_bytes.values()), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_the_one_of_a_model_that_keeps_everything(name):
    torch.manual_seed(0)
    model = MODELS[name]().train()
    _, kept = kept_and_gradient(model, recompute=False)
    _, again = kept_and_gradient(model, recompute=True)
    torch.testing.assert_close(again, kept, rtol=1e-5, atol=1e-6)


def test_products_are_not_computed_again_but_what_lies_between_them_is():
    torch.manual_seed(0)
    model = MODELS["no dropout"]().train()
    counts = []
    for recompute in (False, True):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            kept_and_gradient(model, recompute)
        found = {event.key: event.count for event in profile.key_averages()}
        counts.append((found["MmBackward0"], found["aten::silu"]))
    (products, activations), (products_again, activations_again) = counts
    assert products_again == products
    assert activations_again > activations
