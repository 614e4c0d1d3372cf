"""Every test of this room has one thread, a cache of its own, and the tiny language beside it."""

import sys
from pathlib import Path

import pytest
import torch

# Processes that the tests start find their neighbours by folder; the tests themselves do it in the same way.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other cost these tiny models tenfold on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path_factory.mktemp("cache")))
