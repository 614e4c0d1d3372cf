"""Pages that follow from the code: one for each method, from its row, its docstring and its reproduction's result."""

import ast
import json
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import scale  # noqa: E402 - found through the line above

from penchant.apps.tables import (  # noqa: E402
    audits_table,
    comparisons_page,
    files_table,
    methods_table,
    people_table,
    result,
)
from penchant.methods import METHODS, Method  # noqa: E402

RESULTS = ROOT / "docs" / "results"
SCALE = ROOT / "docs" / "benchmarks" / "scale.json"


def on_files(files, config):
    """Add the generated pages to the site."""
    files.append(
        File.generated(
            config, "methods/index.md", content="# Methods\n\n" + methods_table(RESULTS, link="{name}.md") + "\n"
        )
    )
    for row in METHODS:
        files.append(File.generated(config, f"methods/{row.name}.md", content=page(row)))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "contributing.md", content=text))
    return files


def on_page_markdown(markdown, **_):
    """Measured tables stand where a page names them."""
    people, files, audits = RESULTS / "one_for_all.json", RESULTS / "demo", RESULTS / "audit"
    compared = RESULTS / "learn"
    tables = {
        "{{ people }}": people_table(people) if people.exists() else "(not measured yet)",
        "{{ files }}": files_table(files) if files.is_dir() else "(not measured yet)",
        "{{ audits }}": audits_table(audits) if audits.is_dir() else "(not measured yet)",
        "{{ compared }}": comparisons_page(compared, link="results/learn/{name}.svg")
        if compared.is_dir()
        else "(not measured yet)",
    }
    if SCALE.exists():
        found = scale.tables(json.loads(SCALE.read_text(encoding="utf-8")))
        tables |= {f"{{{{ scale.{name} }}}}": text for name, text in found.items()}
    for name, table in tables.items():
        markdown = markdown.replace(name, table)
    return re.sub(r"\{\{ scale\.\w+ \}\}", "(not measured yet)", markdown)


def page(row: Method) -> str:
    """One method: claim, command, plot, verdict, docstring."""
    module = row.path.partition(":")[0]
    source = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    about = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    parts = [f"# {row.name}", f"{row.title[0].upper()}{row.title[1:]}. {row.source}; `{row.path.replace(':', '.')}`."]
    found = result(row, RESULTS)
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
