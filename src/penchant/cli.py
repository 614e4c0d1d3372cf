"""The command line: every option is derived from the signature and docstring of the function it runs.

A keyword-only parameter is an option, any other an argument; a parameter whose type is a dataclass is a section
(`--trainer.steps 200`), a mapping takes any `--settings.name value`. A command's module is imported when it is used.
"""

import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from penchant import __version__
from penchant.errors import PenchantError, SettingsError, nearest

GROUPS = {"evaluate": "How well something does: a policy, systems in an arena, a recommender, a judge."}

COMMANDS = {
    "demo": ("penchant.apps.demo:demo", "Feedback in; a model of each person, a steered model and a report out."),
    "import": ("penchant.apps.records:import_files", "Read feedback of any known format into the store."),
    "learn": ("penchant.apps.learn:learn", "Fit a model of people, or compare all; held-out accuracy by person."),
    "profile": ("penchant.apps.profiles:profile", "What was learnt of one person: look, change, take along, delete."),
    "align": ("penchant.apps.align:align", "Train a language model on preferences."),
    "chat": ("penchant.apps.chat:chat", "Talk to a model that is steered by what was learnt about a person."),
    "batch": ("penchant.apps.batch:batch", "Sample, score, encode or mine any number of rows, on one machine or many."),
    "evaluate policy": ("penchant.apps.evaluate:policy", "How well a policy ranks the pairs people judged, and could."),
    "evaluate leaderboard": ("penchant.apps.leaderboard:leaderboard", "Systems by votes between two of them."),
    "evaluate item-fairness": (
        "penchant.apps.item_fairness:item_fairness",
        "Does every item get its share of showings?",
    ),
    "evaluate judge": ("penchant.apps.judge:judge", "How far a judge can be pushed by what should not matter."),
    "evaluate dissect": ("penchant.apps.dissect:dissect", "Which properties of a response move a judge?"),
    "evaluate discovery": (
        "penchant.apps.discovery:discovery",
        "Does a model find out what people want, and answer so?",
    ),
    "evaluate values": ("penchant.apps.values:values", "How far and when a model's values moved while it was trained."),
    "audit": ("penchant.apps.audit:audit", "What feedback can measure, rewards and would teach; a page to look at."),
    "arena": ("penchant.apps.arena.serve:arena", "A live arena: two anonymous systems, people's votes, a leaderboard."),
    "arena-release": ("penchant.apps.arena.release:release", "An arena's votes of one month as open data, anonymised."),
    "arena-forget": ("penchant.apps.arena.forgetting:forget", "Delete everything that one visitor left in an arena."),
    "reproduce": ("penchant.apps.reproduce:reproduce", "Test a paper's claim at laptop scale."),
    "methods": ("penchant.apps.methods:methods", "The methods: what each is for and where it lives."),
    "export": ("penchant.apps.records:export", "Write everything, or what one person left behind."),
    "forget": ("penchant.apps.records:forget", "Delete a person's records and all that was derived from them."),
    "cache": ("penchant.apps.cache:cache", "What was computed once and is kept; how to have less of it."),
}

_SET = "set__"
_EXTRA = f"{__name__}.extra"  # where a context keeps options that only a method knows


class Command(click.Command):
    """A command whose options may be written as in YAML, with `_`, or as usual on a command line, with `-`.

    Args:
        free: sections whose settings only the chosen method knows; they are kept apart as they were written.
        settings: of click's own command.
    """

    def __init__(self, *, free: Sequence[str], **settings: Any):
        super().__init__(**settings)
        self.free = free

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the options' names with `-`; the names of a method's own settings are left as they are."""
        known = {flag for parameter in self.get_params(ctx) for flag in (*parameter.opts, *parameter.secondary_opts)}
        parts = [(arg, *arg.partition("=")) for arg in args]
        dashed = [
            "".join([name.replace("_", "-"), equals, value]) if name.replace("_", "-") in known else arg
            for arg, name, equals, value in parts
        ]
        if self.free:
            dashed, ctx.meta[_EXTRA] = _unknown_apart(dashed, known)
        return super().parse_args(ctx, dashed)


def _unknown_apart(args: list[str], known: set[str]) -> tuple[list[str], list[str]]:
    """Options that click knows with everything else, and the others, each with its value."""
    plain, extra, rest = [], [], list(args)
    while rest:
        token = rest.pop(0)
        name, equals, _ = token.partition("=")
        if name.startswith("--") and name != "--" and name not in known:
            extra += [token] if equals or not rest else [token, rest.pop(0)]
        else:
            plain.append(token)
    return plain, extra


class Commands(click.Group):
    """Lists commands without importing them.

    Args:
        before: the word before the names of these commands; empty for those that stand alone, and the groups.
        settings: of click's own group.
    """

    def __init__(self, *, before: str = "", **settings: Any):
        super().__init__(**settings)
        self.before = before

    @property
    def titles(self) -> dict[str, str]:
        """What each command is for, in the order people meet them."""
        found: dict[str, str] = {}
        for full, (_, title) in COMMANDS.items():
            first, _, second = full.partition(" ")
            if self.before:
                found |= {second: title} if first == self.before else {}
            else:
                found[first] = GROUPS.get(first, title)
        return found

    def list_commands(self, context: click.Context) -> list[str]:
        """Names in the order people meet them."""
        return list(self.titles)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command, imported now, or the group of them."""
        if name not in self.titles:
            raise click.UsageError(f"No command is called {name!r}: {nearest(name, self.titles)}")
        if not self.before and name in GROUPS:
            return Commands(before=name, name=name, help=GROUPS[name], short_help=GROUPS[name])
        return command(name, *COMMANDS[f"{self.before} {name}".strip()])

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The table in `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.titles.items()))


def command(name: str, path: str, title: str) -> click.Command:
    """A click command whose options come from the function at `path`."""
    import docstring_parser

    from penchant.methods import resolve
    from penchant.settings import settings_of

    function = resolve(path)
    parameters: list[click.Parameter] = []
    free: list[str] = []
    for setting in settings_of(function):
        if not setting.keyword_only:
            many = setting.shown_type().startswith("tuple")
            # Not required here: a value may come from --config; what is missing is found when settings are resolved.
            parameters.append(click.Argument([setting.name], nargs=-1 if many else 1, required=False))
        elif setting.section:
            for inner in settings_of(setting.section):
                default = getattr(setting.default, inner.name, inner.default)
                parameters.append(_option(dataclasses.replace(inner, default=default), f"{setting.name}."))
        else:
            if "Mapping" in setting.shown_type():
                free.append(setting.name)
            parameters.append(_option(setting))
    parameters += [
        click.Option(["--config"], metavar="FILE", help="YAML of these settings; the command line overrides it."),
        click.Option(["--print-config"], is_flag=True, help="Print the resolved settings as YAML and stop."),
        click.Option(["--json"], metavar="FILE", help="Write the result as one line of JSON; - is standard output."),
        click.Option(["--debug"], is_flag=True, help="Show where an error came from."),
    ]

    def run(**given: Any) -> None:
        _run(function, given, free, click.get_current_context().meta.get(_EXTRA, []))

    about = docstring_parser.parse(function.__doc__ or "")
    help_text = "\n\n".join(part for part in (about.short_description or title, about.long_description) if part)
    return Command(
        name=name,
        free=free,
        params=parameters,
        callback=run,
        help=help_text,
        short_help=title,
        context_settings={"max_content_width": 110},
    )


def _option(setting: Any, prefix: str = "") -> click.Option:
    from penchant.settings import REQUIRED

    dotted = prefix + setting.name
    default = (
        "" if setting.default in (REQUIRED, None, (), "") or setting.section else f"  [default: {setting.default}]"
    )
    key = _SET + dotted.replace(".", "__")  # click wants an identifier
    flag = "--" + dotted.replace("_", "-")
    if setting.type is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", key], default=None, help=setting.help + default)
    return click.Option(
        ["--" + dotted.replace("_", "-"), key], metavar=setting.shown_type(), help=setting.help + default
    )


def _run(function: Callable[..., Any], given: dict[str, Any], free: list[str], extra: list[str]) -> None:
    from penchant.apps.outcome import speaks
    from penchant.settings import dump, override, read_recipe, resolve

    try:
        values, lines = read_recipe(Path(given["config"])) if given["config"] else ({}, {})
        for key, text in given.items():
            if key in ("config", "print_config", "json", "debug") or text is None or text == ():
                continue
            if key.startswith(_SET):
                override(values, key.removeprefix(_SET).replace("__", "."), str(text))
            else:
                values[key] = text
        for dotted, text in _pairs(extra, free):
            override(values, dotted, text)
        resolved = resolve(function, values, lines=lines)
        if given["print_config"]:
            click.echo(dump(resolved), nl=False)
            return
        outcome = function(**resolved)
        if not speaks():
            return
        to_stdout = given["json"] == "-"
        if outcome.text:
            click.echo(outcome.text, err=to_stdout)
        if given["json"]:
            records = [outcome.data] if isinstance(outcome.data, Mapping) else outcome.data
            written = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            if to_stdout:
                click.echo(written, nl=False)
            else:
                Path(given["json"]).write_text(written, encoding="utf-8")
    except PenchantError as error:
        if given["debug"]:
            traceback.print_exc()
        raise click.exceptions.Exit(_failed(str(error))) from error
    except OSError as error:
        if given["debug"]:
            traceback.print_exc()
        raise click.exceptions.Exit(_failed(f"{error.filename or 'the disk'}: {error.strerror or error}")) from error


def _failed(message: str) -> int:
    click.echo(f"penchant: {message}", err=True)
    return 2


def _pairs(extra: list[str], free: list[str]) -> list[tuple[str, str]]:
    """`--settings.beta 0.2` and `--settings.beta=0.2` for sections whose names only the chosen method knows."""
    found, rest = [], list(extra)
    while rest:
        token = rest.pop(0)
        name, equals, text = token.partition("=")
        if not name.startswith("--") or name[2:].partition(".")[0] not in free or "." not in name:
            known = [flag for option in click.get_current_context().command.params for flag in option.opts]
            raise SettingsError(
                f"Unknown option {token!r}: {nearest(name, known)} A method's own settings are --{free[0]}.NAME VALUE."
            )
        if not equals:
            if not rest:
                raise SettingsError(f"{token} needs a value.")
            text = rest.pop(0)
        found.append((name[2:].replace("-", "_"), text))
    return found


@click.group(cls=Commands, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="penchant")
def cli() -> None:
    """Learns what each person wants from whatever feedback they leave, steers a model to it, and shows if it worked.

    Start with `penchant demo`. `penchant COMMAND --help` explains a command; with --print-config it prints its settings
    as YAML to edit, and --config reads them back.
    """


def main() -> None:
    """Run the command line; Ctrl-C ends with code 130 and leaves what is finished on disk."""
    # A reader that closes early (`penchant methods | head -1`) is no error.
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("penchant: stopped; run the same command again to go on.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
