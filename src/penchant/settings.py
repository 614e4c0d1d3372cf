"""Settings: name, type, default and help of an option exist once, at the constructor; everything else is derived.

constructor signature -> settings -> YAML -> command line, in that direction only. A parameter whose type is a dataclass
is a section of its own (`trainer: {steps: 200}`, `--trainer.steps 200`), at most one level deep.

>>> def brew(*, cups: int, strong: bool = False) -> None:
...     '''Make coffee.
...
...     Args:
...         cups: how many.
...         strong: two spoons instead of one.
...     '''
>>> [(setting.name, setting.help) for setting in settings_of(brew)]
[('cups', 'how many.'), ('strong', 'two spoons instead of one.')]
>>> resolve(brew, {"cups": "3"})
{'cups': 3, 'strong': False}
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docstring_parser
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from penchant.errors import SettingsError, nearest

REQUIRED: Any = inspect.Parameter.empty
_LARGEST_RECIPE = 1 << 16  # bytes
_DEEPEST = 10
_PLAIN = (str, int, float, bool, list, tuple, dict, Path)


@dataclass(frozen=True)
class Setting:
    """One option.

    Attributes:
        name: as in the constructor.
        type: its annotation, resolved.
        default: its default, or `REQUIRED`.
        help: its line in the docstring.
        keyword_only: whether it can only be given by name.
        section: the dataclass that holds its own settings, if it is a section.
    """

    name: str
    type: Any
    default: Any
    help: str
    keyword_only: bool
    section: type | None = None

    def shown_type(self) -> str:
        """The type in words a person can act on."""
        origin = typing.get_origin(self.type)
        if origin is typing.Literal:
            return "|".join(map(str, typing.get_args(self.type)))
        if origin in (typing.Union, types.UnionType):
            return "|".join("null" if t is type(None) else _short(t) for t in typing.get_args(self.type))
        return _short(self.type)


def _short(kind: Any) -> str:
    return (
        kind.__name__
        if isinstance(kind, type) and not typing.get_args(kind)
        else str(kind).replace("collections.abc.", "").replace("typing.", "")
    )


def _section(annotation: Any) -> type | None:
    choices = typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else ()
    for kind in (annotation, *choices):
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return kind
    return None


def settings_of(target: Callable[..., Any]) -> tuple[Setting, ...]:
    """Every keyword of a constructor or function, with its type, default and help.

    Args:
        target: a class (its constructor counts) or a function with annotated keyword parameters.
    """
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function)
    documents = [target.__doc__ or "", function.__doc__ or ""]
    texts = {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for document in documents
        for parameter in docstring_parser.parse(document, style=docstring_parser.DocstringStyle.GOOGLE).params
    }
    found = []
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        kind = hints.get(parameter.name, Any)
        found.append(
            Setting(
                parameter.name,
                kind,
                parameter.default,
                texts.get(parameter.name, ""),
                parameter.kind is inspect.Parameter.KEYWORD_ONLY,
                section=_section(kind),
            )
        )
    return tuple(found)


def resolve(
    target: Callable[..., Any], values: Mapping[str, Any], *, where: str = "", lines: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Values checked and converted for a constructor or function, with defaults filled in.

    Args:
        target: whose keywords they are.
        values: raw values, as YAML or a command line gives them; sections are mappings.
        where: prefix of names in messages, such as "trainer.".
        lines: line in the file of each dotted name, for messages.

    Returns:
        Every keyword of `target`; sections are instances of their dataclass.

    Raises:
        SettingsError: a name is unknown (the nearest is named), a value is missing or of the wrong type.
    """
    known = {setting.name: setting for setting in settings_of(target)}
    lines = lines or {}

    def at(name: str) -> str:
        line = lines.get(where + name)
        return f"`{where}{name}`" + (f" (line {line})" if line else "")

    for name in values:
        if name not in known:
            raise SettingsError(f"Unknown setting {at(str(name))}: {nearest(str(name), known)}")
    resolved: dict[str, Any] = {}
    for name, setting in known.items():
        value = values.get(name, setting.default)
        if setting.section and isinstance(value, Mapping):
            inner = resolve(setting.section, value, where=f"{where}{name}.", lines=lines)
            given = {key: inner[key] for key in value}
            # A default instance may differ from its class's own defaults.
            value = (
                dataclasses.replace(setting.default, **given)
                if isinstance(setting.default, setting.section)
                else setting.section(**inner)
            )
        elif setting.section and value is REQUIRED:
            value = setting.section(**resolve(setting.section, {}, where=f"{where}{name}.", lines=lines))
        elif value is REQUIRED:
            raise SettingsError(f"Setting {at(name)} is missing ({setting.shown_type()}): {setting.help or 'give it'}")
        elif name in values and (value is None or isinstance(value, _PLAIN)):
            # Anything else was made in Python by whoever composes a run, such as an encoder.
            value = _converted(setting, value, at(name))
        resolved[name] = value
    return resolved


def _converted(setting: Setting, value: Any, at: str) -> Any:
    try:
        adapter = TypeAdapter(
            setting.type, config=None if setting.section else ConfigDict(arbitrary_types_allowed=True)
        )
        return adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise SettingsError(f"Setting {at} is {value!r}, but must be {setting.shown_type()}: {reason}.") from error


def plain(value: Any) -> Any:
    """Settings as YAML and JSON can hold them: dataclasses become mappings, paths strings, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def read_recipe(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML file of settings, which may come from anybody: a few plain mappings, lists and values.

    Returns:
        The settings, and the line on which each dotted name stands.

    Raises:
        SettingsError: the file cannot be read, is not YAML, is larger than 64 KiB, nested deeper than ten levels,
            uses anchors, aliases or tags, repeats a key, or is no mapping; with the line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_RECIPE + 1)
    except (OSError, ValueError) as error:  # a NUL in the name is no error of the operating system
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{path.name!r} cannot be read: {reason}.") from error
    if len(content) > _LARGEST_RECIPE:
        raise SettingsError(f"{path.name!r} is larger than {_LARGEST_RECIPE >> 10} KiB; settings are a few lines.")
    values, lines = _from_yaml(content, repr(path.name))
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name!r} holds no settings: write `name: value` lines.")
    return values, lines


def _from_yaml(text: str | bytes, where: str) -> tuple[Any, dict[str, int]]:
    """A value, and the line of each of its keys; nothing in it can run, refer to itself or grow."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise SettingsError(f"{where}, line {line}: nested deeper than {_DEEPEST} levels.")
            is_tagged = isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None
            if is_tagged or isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise SettingsError(f"{where}, line {line}: settings have no anchors, aliases or tags; write it out.")
        return yaml.safe_load(text), _lines(yaml.compose(text, Loader=yaml.SafeLoader), where)
    except SettingsError:
        raise
    # The YAML library lets through what Python itself says of impossible dates and numbers.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise SettingsError(f"{where} is not valid YAML: {error}") from error


def _lines(node: Any, where: str, prefix: str = "") -> dict[str, int]:
    lines: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = prefix + str(key.value)
            if name in lines:
                raise SettingsError(
                    f"{where}, line {key.start_mark.line + 1}: `{name}` stands already on line {lines[name]}."
                )
            lines[name] = key.start_mark.line + 1
            lines |= _lines(value, where, f"{name}.")
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            lines |= _lines(value, where, f"{prefix}{place}.")
    return lines


def override(values: dict[str, Any], dotted: str, text: str) -> None:
    """Set one setting from the command line, in place; the text is read as YAML, so `0.2` is a number.

    Raises:
        SettingsError: the text is not YAML, or a section of that name is already a plain value.
    """
    value, _ = _from_yaml(text, f"--{dotted} {text!r}")
    *sections, name = dotted.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise SettingsError(f"--{dotted}: `{section}` is a single value here, not a section.")
    place[name] = value


def dump(values: Mapping[str, Any]) -> str:
    """Settings as YAML, in their own order."""
    return str(yaml.safe_dump(plain(values), sort_keys=False, allow_unicode=True))
