"""`penchant cache`: what is kept is told by namespace, and goes when it is told to."""

import pytest

from penchant.apps.cache import cache
from penchant.cache import RowCache
from penchant.errors import SettingsError


@pytest.fixture
def filled(own_cache):
    rows = RowCache()
    rows.put_many("minilm", {str(i): bytes(1536) for i in range(200)})
    rows.put_many("chat/small", {str(i): b"an answer" for i in range(3)})
    return rows


def test_the_table_says_how_much_of_what(filled):
    told = cache()
    assert [(one["namespace"], one["rows"]) for one in told.data["namespaces"]] == [("minilm", 200), ("chat/small", 3)]
    assert str(filled.path) in told.text
    assert "at most 2.1 GB" in told.text
    assert "327.2 kB" in told.text


def test_a_namespace_or_all_is_cleared(filled):
    assert cache(clear="chat").data["deleted"] == {"cleared": 3}
    assert [one["namespace"] for one in cache().data["namespaces"]] == ["minilm"]
    assert cache(clear="all").data["namespaces"] == []


def test_a_limit_makes_room_now_and_holds_from_now_on(filled):
    told = cache(limit="200kB")
    assert told.data["deleted"]["made room"] > 50
    assert told.data["bytes"] <= told.data["limit"] == 200_000
    assert RowCache().limit() == 200_000
    with pytest.raises(SettingsError, match="above zero"):
        cache(limit="0")


def test_collecting_finds_nothing_wrong_with_what_is_sound(filled):
    assert cache(gc=True).data["deleted"] == {"damaged": 0, "beyond the limit": 0}
    assert cache().data["namespaces"][0]["rows"] == 200
