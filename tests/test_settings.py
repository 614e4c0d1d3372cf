"""Settings: derived from signatures, checked once, and wrong ones are named with line and nearest neighbour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import SettingsError
from penchant.settings import dump, override, plain, read_recipe, resolve, settings_of


@dataclass(frozen=True)
class Oven:
    """Heat.

    Attributes:
        degrees: Celsius.
        fan: whether it blows.
    """

    degrees: float = 180.0
    fan: bool = False


def bake(
    cake: str,
    *,
    oven: Oven = Oven(),
    mode: Literal["slow", "fast"] = "slow",
    tins: int | None = None,
    extra: Mapping[str, Any] = {},
    out: Path = Path("cakes"),
) -> None:
    """Bake.

    Args:
        cake: which.
        oven: its settings.
        mode: how.
        tins: how many.
        extra: anything.
        out: where to.
    """


def test_names_types_defaults_and_help_come_from_signature_and_docstring():
    found = {setting.name: setting for setting in settings_of(bake)}
    assert found["mode"].shown_type() == "slow|fast"
    assert found["tins"].shown_type() == "int|null"
    assert (found["out"].default, found["cake"].help, found["cake"].keyword_only) == (Path("cakes"), "which.", False)
    assert [inner.help for inner in settings_of(found["oven"].section)] == ["Celsius.", "whether it blows."]


def test_a_section_is_filled_with_its_defaults():
    assert resolve(bake, {"cake": "x", "oven": {"fan": True}})["oven"] == Oven(180.0, True)
    assert resolve(bake, {"cake": "x"})["oven"] == Oven()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cake": "x", "moed": "slow"}, "Unknown setting `moed`: did you mean 'mode'"),
        ({"cake": "x", "oven": {"degree": 1}}, "Unknown setting `oven.degree`: did you mean 'degrees'"),
        ({}, "`cake` is missing"),
        ({"cake": "x", "tins": "many"}, "`tins` is 'many', but must be int|null"),
        ({"cake": "x", "oven": {"degrees": "hot"}}, "`oven.degrees` is 'hot', but must be float"),
        ({"cake": "x", "oven": 3}, "`oven` is 3"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(SettingsError, match=message.replace("|", r"\|")):
        resolve(bake, values)


def test_a_wrong_key_in_a_file_is_named_with_its_line(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("cake: apple\noven:\n  degrees: 200\n  fam: true\n")
    values, lines = read_recipe(recipe)
    with pytest.raises(SettingsError, match=r"`oven\.fam` \(line 4\): did you mean 'fan'"):
        resolve(bake, values, lines=lines)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n",
        "a: [1\n",
        "- 1\n",
        "",
        "a: !!python/object/apply:os.system [echo]\n",
        "a: &x [*x]\nb: 1\nb: 2",
        "a: &x 1",
        "a: [{b: 1, b: 2}]",
        "a: {b: {c: {d: {e: {f: 1, f: 2}}}}}",
        "a: " + "9" * 5000,
        "? [1, 2]\n: 3",
        "a: 1\n" * 20_000,
        "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(20)),
        "\x00",
        "kind: 2001-99-99",
        "[" * 5000,
    ],
)
def test_a_hostile_or_broken_file_is_one_clear_error(tmp_path, text):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    with pytest.raises(SettingsError, match=r"r\.yaml"):
        read_recipe(recipe)


def test_a_file_that_never_ends_is_refused_after_what_a_recipe_may_hold():
    with pytest.raises(SettingsError, match="'zero' is larger than 64 KiB"):
        read_recipe(Path("/dev/zero"))


@given(st.text(max_size=30) | st.text("[]{}&*!<:-?,|>'\"#%@ \n\tax1", max_size=12))
def test_any_text_on_the_command_line_is_a_value_or_a_clear_error(text):
    values: dict[str, Any] = {}
    try:
        override(values, "oven.degrees", text)
        resolve(bake, {"cake": "x", **values})
    except SettingsError:
        pass


def test_what_was_resolved_reads_back_as_itself(tmp_path):
    resolved = resolve(bake, {"cake": "plum", "oven": {"degrees": 90}, "extra": {"sugar": 0.2}})
    recipe = tmp_path / "r.yaml"
    recipe.write_text(dump(resolved))
    again = resolve(bake, read_recipe(recipe)[0])
    assert again == resolved
    assert plain(again)["out"] == "cakes"


def test_fields_with_a_factory_have_their_default():
    @dataclass(frozen=True)
    class Box:
        """Box.

        Attributes:
            sizes: all.
        """

        sizes: tuple[int, ...] = field(default_factory=lambda: (1, 2))

    def pack(*, box: Box) -> None:
        """Pack.

        Args:
            box: it.
        """

    pack.__annotations__["box"] = Box
    assert resolve(pack, {})["box"] == Box((1, 2))
