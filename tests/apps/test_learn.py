"""Models of people by name."""

import pytest

from penchant.apps.learn import build
from penchant.errors import SettingsError
from penchant.style import Style


@pytest.mark.parametrize("name", ["reactions", "regret", "dpo"])
def test_a_method_that_learns_from_something_else_than_comparisons_says_so(name):
    with pytest.raises(SettingsError, match="does not learn from comparisons"):
        build(name, Style(), {})
