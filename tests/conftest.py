"""Shared by all tests: a cache and a command line of their own, and the development data, if it is there."""

import os
import sys
from pathlib import Path

import pytest

from penchant import cli


@pytest.fixture
def own_cache(monkeypatch, tmp_path) -> Path:
    """A cache of the test's own: forgetting a person deletes from it."""
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def called(capsys, monkeypatch, tmp_path, own_cache):
    """The command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["penchant", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return call


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real feedback sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PENCHANT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real feedback sets are not on this machine (set PENCHANT_DATA to their folder)")
    return folder
