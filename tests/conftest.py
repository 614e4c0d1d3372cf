"""Shared by all tests: a cache and a command line of their own, PostgreSQL and the development data, if there."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
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


def binaries():
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL of our own on a free loopback port, as long as the tests run."""
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    home = Path(tempfile.mkdtemp(prefix="penchant-pg-"))
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(home, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = home / "data"
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    run = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home}
    subprocess.run([*as_user, str(folder / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres"], **run)
    subprocess.run(
        [*as_user, str(folder / "pg_ctl"), "-D", str(data), "-o", options, "-w", "-l", str(home / "log"), "start"],
        **run,
    )
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    subprocess.run([*as_user, str(folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"], **run)
    shutil.rmtree(home, ignore_errors=True)
