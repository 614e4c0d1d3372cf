"""`penchant methods`: what there is, what it is for, where it lives."""

import inspect

from penchant.apps.outcome import Outcome
from penchant.methods import METHODS
from penchant.methods import method as row_of
from penchant.settings import REQUIRED, settings_of


def methods(name: str | None = None) -> Outcome:
    """List the methods, or show one: what it is for, its source, its file and line, its settings with help.

    Args:
        name: a method of the table; without it, all are listed.
    """
    if name is None:
        rows = [
            {"name": m.name, "title": m.title, "room": m.room, "path": m.path, "source": m.source, "slug": m.slug}
            for m in METHODS
        ]
        width = max(len(m.name) for m in METHODS)
        text = "\n".join(
            f"{m.room:<9} {m.name:<{width}}  {m.title} ({m.source}{m.slug and f': penchant reproduce {m.slug}'})"
            for m in METHODS
        )
        return Outcome({"methods": rows}, text)
    row = row_of(name)
    target = row.resolve()
    lines = [
        f"{row.name}: {row.title}",
        f"  source        {row.source}",
        f"  use           {row.path.replace(':', '.')}",
    ]
    file, line = inspect.getsourcefile(target), inspect.getsourcelines(target)[1]
    lines.append(f"  defined       {'/'.join((file or '').split('/')[-3:])}, line {line}")
    if row.slug:
        lines.append(f"  reproduction  penchant reproduce {row.slug}")
    lines.append("  settings")
    settings = {}
    for setting in settings_of(target):
        default = "required" if setting.default is REQUIRED else repr(setting.default)
        settings[setting.name] = {"type": setting.shown_type(), "default": default, "help": setting.help}
        lines.append(f"    {setting.name} ({setting.shown_type()}, {default}): {setting.help}")
    data = {"name": row.name, "title": row.title, "room": row.room, "path": row.path, "settings": settings}
    return Outcome(data, "\n".join(lines))
