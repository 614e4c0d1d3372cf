"""An empty place for an arena, on SQLite and on a real PostgreSQL."""

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'arena.db'}"
    address = request.getfixturevalue("postgresql")
    psycopg = pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return address
