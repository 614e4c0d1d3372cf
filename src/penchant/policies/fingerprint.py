"""What a model and a row are known by in the cache: a digest of the weights that answer, and of the row's tokens."""

import hashlib
from array import array
from collections.abc import Mapping

import torch
from torch import nn

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
    return digest_of(weights)


def digest_of(weights: Mapping[str, torch.Tensor]) -> str:
    """A digest of named weights: of their bytes, shapes and types, whatever their order."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(weights.items()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def response_keys(example: Example) -> list[str]:
    """The content of a prompt and each of its responses."""
    start = hashlib.blake2b(array("q", (len(example.prompt), *example.prompt)).tobytes(), digest_size=20)
    keys = []
    for given, response in zip(example.given, example.responses, strict=True):
        digest = start.copy()
        digest.update(array("q", (given, *response)).tobytes())
        keys.append(digest.hexdigest())
    return keys
