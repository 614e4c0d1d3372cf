"""The table of methods: every row is there, and every public name too."""

import importlib
import pkgutil

import pytest

import penchant
from penchant.errors import UnknownNameError
from penchant.methods import METHODS, method, resolve
from penchant.reproductions.run import reproductions


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_method_is_where_the_table_says_and_documented(row):
    target = row.resolve()
    assert callable(target)
    assert target.__doc__


@pytest.mark.parametrize("slug", sorted(reproductions()))
def test_every_reproduction_states_a_claim_and_can_be_run_at_both_scales(slug):
    module = importlib.import_module(f"penchant.reproductions.{reproductions()[slug]}")
    assert module.CLAIM
    assert module.METRIC
    assert set(module.SEEDS) == {"quick", "full"}
    assert callable(module.run)
    assert callable(module.verdict)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(UnknownNameError, match="'dpo'"):
        method("dop")


def test_a_users_own_class_works_by_dotted_path():
    assert resolve("collections.OrderedDict").__name__ == "OrderedDict"
    with pytest.raises(UnknownNameError, match="names nothing"):
        resolve("no.such.thing")


def test_every_public_name_of_every_room_can_be_imported():
    for room in pkgutil.iter_modules(penchant.__path__, "penchant."):
        if room.ispkg:
            module = importlib.import_module(room.name)
            for name in getattr(module, "__all__", ()):
                assert getattr(module, name) is not None
