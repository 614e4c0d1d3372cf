"""Pages that follow from the code: one for each method, from its row, its docstring and its reproduction's result."""

import ast
import json
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from penchant.methods import METHODS, Method  # noqa: E402 - found through the line above

RESULTS = ROOT / "docs" / "results"


def on_files(files, config):
    """Add the generated pages to the site."""
    files.append(File.generated(config, "methods/index.md", content=index()))
    for row in METHODS:
        files.append(File.generated(config, f"methods/{row.name}.md", content=page(row)))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "contributing.md", content=text))
    return files


def result(row: Method):
    """What the reproduction of a method ended with, full before quick; None if it has not been run."""
    for scale in ("full", "quick"):
        path = RESULTS / (row.reproduction or "-").replace("_", "-") / f"{scale}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
    return None


def verdict(row: Method) -> str:
    """Holds, does not hold, or not run, with the interval."""
    found = result(row)
    if found is None:
        return "no claim to test" if row.reproduction is None else "not run"
    word = "holds" if found["holds"] else "does not hold here"
    return f"{word}: {found['difference']:+.3g} [{found['ci_low']:+.3g}, {found['ci_high']:+.3g}]"


def index() -> str:
    """The table of methods."""
    rows = [f"| [{m.name}]({m.name}.md) | {m.room} | {m.title} | {m.source} | {verdict(m)} |" for m in METHODS]
    head = "| method | room | what it is for | source | its claim here |\n|---|---|---|---|---|"
    return "# Methods\n\n" + head + "\n" + "\n".join(rows) + "\n"


def page(row: Method) -> str:
    """One method: claim, command, plot, verdict, docstring."""
    module = row.path.partition(":")[0]
    source = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    about = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    parts = [f"# {row.name}", f"{row.title[0].upper()}{row.title[1:]}. {row.source}; `{row.path.replace(':', '.')}`."]
    found = result(row)
    if found:
        slug, scale = found["slug"], found["scale"]
        parts += [
            "## The claim, and what we saw",
            f"**Claim.** {found['claim']}",
            f"**Verdict.** {'It holds' if found['holds'] else 'It does not hold'} here, over {found['seeds']} seeds "
            f"({found['seconds']:.0f} s). {found['metric']}: ours {found['ours']:.4g}, "
            f"baseline {found['baseline']:.4g}, difference {found['difference']:+.4g} "
            f"[{found['ci_low']:+.4g}, {found['ci_high']:+.4g}].",
            "\n".join(f"- {note}" for note in found["notes"]),
            f"```\npenchant reproduce {slug} --scale {scale}\n```",
        ]
        if (RESULTS / slug / f"{scale}.png").exists():
            parts.append(f"![What {slug} measured](../results/{slug}/{scale}.png)")
    parts += ["## How it is written", f"```text\n{about}\n```"]
    return "\n\n".join(parts) + "\n"
