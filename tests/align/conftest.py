"""Every test of this room keeps its cache to itself, and finds the tiny language beside it."""

import sys
from pathlib import Path

import pytest

# Processes that the tests start find their neighbours by folder; the tests themselves do it in the same way.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path_factory.mktemp("cache")))
