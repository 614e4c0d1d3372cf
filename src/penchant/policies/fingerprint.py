"""What a model and a row are known by in the cache: a digest of the weights that answer, and of the row's tokens."""

import hashlib

import torch
from torch import nn

from penchant.cache import content_key
from penchant.policies.sequences import Example


def fingerprint(model: nn.Module) -> str:
    """A digest of the weights that take part in an answer as the model stands now.

    A model whose adapters are switched off has the fingerprint of the model without adapters.
    """
    adapters_count = not getattr(model, "_adapters_disabled", False)
    weights = {}
    for name, parameter in model.named_parameters():
        if adapters_count or "lora_" not in name:
            weights[name.replace("base_model.model.", "").replace(".base_layer", "")] = parameter
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(weights.items()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def response_key(example: Example, response: int) -> str:
    """The content of a prompt and one of its responses."""
    return content_key(repr(example.prompt), repr(example.responses[response]), str(example.given[response]))
