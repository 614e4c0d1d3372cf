"""Shared by all tests: where the development data lies, if it is there."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def own_cache(monkeypatch, tmp_path) -> Path:
    """A cache of the test's own: forgetting a person deletes from it."""
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real feedback sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PENCHANT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real feedback sets are not on this machine (set PENCHANT_DATA to their folder)")
    return folder
