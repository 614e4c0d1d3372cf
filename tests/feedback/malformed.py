"""Files of feedback that are wrong in some way, made from valid samples of every format by seeded damage.

    python tests/feedback/malformed.py --inputs 10000 --json docs/benchmarks/fuzz_import.json

imports so many of them and counts what came of it: any exception but ours, any row that is neither kept nor counted,
any record that a store would not take ends it with the seed that makes the file again. The tests import a few hundred.
"""

import argparse
import gzip
import io
import json
import random
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from format_samples import SAMPLES

from penchant.errors import PenchantError
from penchant.feedback.importing import Part, stream, together
from penchant.records import KINDS
from penchant.store import Store

DEEP = 50_000
# JSON texts that are put in place of a value; most are legal JSON that no converter expects.
HOSTILE = [
    *["null", "true", "-1", "0", '""', "[]", "{}", "NaN", "-Infinity", "1e999", "9" * 5000, "9" * 400, "-0.0"],
    *['"\\ud800"', '"\\u0000"', '"' + "x" * 5000 + '"', '"__proto__"', '"2001-99-99"', '"\\u001b[2J"', '"\\ufffe"'],
    *["[[[[[[1]]]]]]", '{"a":{"b":{"role":1}}}', '[{"role":"user"}]', '[{"role":"user","content":5},3]'],
    *['{"answer":null,"Rating":[],"response":7}', "[null,null]", "[1e308,1e308]", "[" * DEEP + "]" * DEEP],
    *['{"a":' * DEEP + "1" + "}" * DEEP, "18446744073709551616", "0.1e-400", '{"":{"":""}}', "[[],{}]"],
]
KEYS = ["", "\ud800", "extra", "source", "user", "timestamp", "form", "kind", "__class__", "x" * 3000, "a\nb", "prompt"]
LINE_FORMS = ("jsonl", "jsonl.gz", "csv", "tsv", "csv.gz")
COLUMN_FORMS = ("parquet", "arrow", "arrows", "npz")
FORMS = (*LINE_FORMS, "json", *COLUMN_FORMS)
DAMAGES = ("values", "bytes", "encoding", "structure", "bomb")


@dataclass(frozen=True)
class Case:
    """A malformed file.

    Attributes:
        path: where it lies.
        format: of the sample that it was made from.
        form: how it is written.
        damage: what was done to it.
        rows: how many rows it has in any reading of it; None where that is a matter of opinion.
    """

    path: Path
    format: str
    form: str
    damage: str
    rows: int | None


def made(seed: Any, folder: Path, *, format: str | None = None) -> Case:
    """The malformed file of a seed."""
    rng = random.Random(f"{seed} {format}")
    format = format or rng.choice(sorted(SAMPLES))
    form, damage = rng.choice(FORMS), rng.choices(DAMAGES, weights=[5, 5, 2, 4, 1])[0]
    ending = form if rng.random() < 0.8 else "data"
    rows = SAMPLES[format] * rng.randint(1, 6)
    n_rows = None
    if damage == "values":
        content, n_rows = with_wrong_values(form, rows, rng)
    elif damage == "bytes":
        content = damaged(sound(form, rows, rng), rng)
        n_rows = rows_of_lines(content) if form == ending == "jsonl" else None
    elif damage == "encoding":
        content = recoded(sound(form, rows, rng), rng)
    elif damage == "structure":
        content = restructured(form, rows, rng)
    else:
        content = bomb(form, rows, rng)
    path = folder / f"{str(seed).replace(' ', '-')}-{format}.{ending}"
    path.write_bytes(content)
    return Case(path, format, form, damage, n_rows)


def rows_of_lines(content: bytes) -> int | None:
    """Lines that are not blank; None if the file does not begin like text, or would be read as one document."""
    lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    is_text = not content.startswith(
        (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"PAR1", b"ARROW1", b"PK\x03\x04", b"\xff" * 4)
    )
    return len(lines) if is_text and content else None


# Sound files ----------------------------------------------------------------------------------------------------------


def sound(form: str, rows: list[dict[str, Any]], rng: random.Random) -> bytes:
    """A valid file of some rows."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if form == "json":
        return json.dumps(rows, indent=rng.choice([None, 1])).encode()
    if form.startswith(("csv", "tsv")):
        text = separated(rows, "\t" if form == "tsv" else ",").encode()
        return zipped(text) if form.endswith("gz") else text
    if form in COLUMN_FORMS:
        return columns(form, pa.table(texts(rows)), rng)
    return zipped(lines) if form == "jsonl.gz" else lines


def zipped(data: bytes) -> bytes:
    """Gzip without a time, so that a seed is one file."""
    return gzip.compress(data, 1, mtime=0)


def separated(rows: list[dict[str, Any]], separator: str) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[json.dumps(row.get(name)).strip('"') for name in names] for row in rows]
    quoted = [[f'"{cell}"' if separator in cell or '"' in cell else cell for cell in row] for row in cells]
    return "\n".join(separator.join(row) for row in [names, *quoted])


def texts(rows: list[dict[str, Any]]) -> dict[str, pa.Array]:
    """Columns of the rows; values that have no common type become JSON texts."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            found[name] = pa.array(values)
        except pa.ArrowException:
            found[name] = pa.array([json.dumps(value) for value in values])
    return found


def columns(form: str, table: pa.Table, rng: random.Random) -> bytes:
    """A table as a file; of numpy's form, rollouts of about as many steps."""
    out = io.BytesIO()
    if form == "parquet":
        pq.write_table(
            table,
            out,
            row_group_size=rng.choice([1, 3, 1000]),
            compression=rng.choice(["none", "snappy", "zstd", "gzip"]),
            write_page_checksum=rng.random() < 0.5,
            use_dictionary=rng.random() < 0.5,
        )
    elif form in ("arrow", "arrows"):
        opened = pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream
        options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, "lz4", "zstd"]))
        with opened(out, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        n = 2 + len(table)
        save = rng.choice([np.savez, np.savez_compressed])
        save(out, obs=np.zeros((n + 2, 2)), acts=np.zeros(n), rews=np.zeros(n), indices=np.array([1]))
    return out.getvalue()


# Damage ---------------------------------------------------------------------------------------------------------------


def with_wrong_values(form: str, rows: list[dict[str, Any]], rng: random.Random) -> tuple[bytes, int | None]:
    """A file whose form is right and whose values are not, and how many rows it has."""
    if form in COLUMN_FORMS:
        table = pa.table(texts(rows))
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(table.num_columns)
            table = table.set_column(place, rng.choice([table.column_names[place], *KEYS[2:]]), odd(len(table), rng))
        return columns(form, table, rng), len(table) if form != "npz" else None
    if form.startswith(("csv", "tsv")):
        return sound(form, [{**row, rng.choice([*row]): rng.choice(HOSTILE[:20])} for row in rows], rng), None
    lines = [json.dumps(row) for row in rows] + [changed(rng.choice(rows), rng) for _ in range(rng.randint(1, 6))]
    rng.shuffle(lines)
    if form == "json":
        return ("[" + ",".join(lines) + "]").encode(), None
    data = ("\n".join(lines) + "\n").encode()
    return (zipped(data) if form == "jsonl.gz" else data), len(lines)


def odd(n: int, rng: random.Random) -> pa.Array:
    """A column of some type, some of its values missing."""
    far = datetime(9999, 12, 31, tzinfo=UTC)
    choices: list[list[Any]] = [
        [0, -1, 2**63 - 1],
        [0.0, float("nan"), float("inf"), 1e308],
        [True, False],
        [b"\xff\x00", b""],
        ["", "\0", "x" * 3000, "[1]", "Human: x", "1e999"],
        [[], [1], [None]],
        [[{"role": "user", "content": "x"}], [{"role": None, "content": None}]],
        [{"a": 1}, {"a": None}],
        [far, datetime(1, 1, 1, tzinfo=UTC)],
        [Decimal("1.5"), Decimal("NaN") if rng.random() < 0.1 else Decimal(0)],
        [timedelta(1), timedelta(-1)],
    ]
    values = [rng.choice([*rng.choice([choices[rng.randrange(len(choices))]]), None])] * n
    kind = rng.choice(choices)
    values = [rng.choice([*kind, None]) for _ in range(n)]
    try:
        column = pa.array(values)
    except pa.ArrowException:
        column = pa.nulls(n)
    is_text = pa.types.is_string(column.type)
    return rng.choice([column, column.dictionary_encode(), column.cast(pa.large_string())]) if is_text else column


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a row."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, each in inner for place in places(each, (*path, key))]


def changed(row: Any, rng: random.Random) -> str:
    """The JSON of a row in which something was replaced, removed, renamed or added."""
    row = json.loads(json.dumps(row))
    *way, last = rng.choice([place for place in places(row) if place])
    inside = row
    for step in way:
        inside = inside[step]
    action = rng.randrange(4)
    if action == 0:
        del inside[last]
    elif action == 1 and isinstance(inside, dict):
        inside[rng.choice(KEYS)] = inside.pop(last)
    elif action == 2:
        row[rng.choice(KEYS)] = inside[last]
    else:
        inside[last] = "@HOSTILE@"
    return json.dumps(row).replace('"@HOSTILE@"', rng.choice(HOSTILE))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes that were flipped, cut, doubled, inserted or removed."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        action = rng.randrange(5)
        if action == 0 and at < len(data):
            data[at] ^= rng.randint(1, 255)
        elif action == 1:
            del data[at:]
        elif action == 2:
            data[at:at] = data[: rng.randrange(len(data) + 1)]
        elif action == 3:
            odd_bytes = [b"\0", b"\xff\xfe", b'"', b"\n", b"\r", b"[", b"{", b"\xed\xa0\x80", b"\\u", b","]
            data[at:at] = rng.choice(odd_bytes)
        else:
            del data[at : at + rng.randint(1, 30)]
    return bytes(data)


def recoded(content: bytes, rng: random.Random) -> bytes:
    """Text in another encoding, or with the line breaks of several systems and letters that editors leave behind."""
    text = content.decode("latin-1")
    encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037", "utf-7", None])
    if encoding is not None:
        return text.encode(encoding, "replace")
    breaks = ["\n", "\r\n", "\r", "\n\n", "\x0b", "\x85", "\u2028", "\0\n", "\x1a"]
    return "".join(line + rng.choice(breaks) for line in text.splitlines()).encode("utf-8")


def restructured(form: str, rows: list[dict[str, Any]], rng: random.Random) -> bytes:
    """A file put together wrongly."""
    content = sound(form, rows, rng)
    if form.endswith("gz"):
        return rng.choice(
            [content + content[:20], content + b"trailing", zipped(content), content[:12], content + b"\0" * 99]
        )
    if form in COLUMN_FORMS:
        other = sound(rng.choice(COLUMN_FORMS), rows, rng)
        foreign = io.BytesIO()
        with zipfile.ZipFile(foreign, "w") as packed:
            packed.writestr(
                rng.choice(["a.txt", "obs.npy", "../../x", "/etc/x"]), content[: rng.randrange(len(content))]
            )
        return rng.choice(
            [content[:4] + other, content + other, content[: len(content) // 2] + content[-8:], foreign.getvalue()]
        )
    text = content.decode()
    lines = text.split("\n")
    rng.shuffle(lines)
    separator = rng.choice([",", "\t", ";", "|"])
    return rng.choice(
        [
            text.replace("\n", ""),
            text.replace("\n", ",\n"),
            "[" + text,
            text + "]}",
            '{"data": ' + text,
            '{"a": [], "data": [' + ",".join(lines) + "]}",
            "// comment\n" + text,
            text.replace('"', "'"),
            text.replace(",", separator),
            text.replace('"', '""'),
            text.replace(",", ",,", 3),
            "\n".join(lines),
            text + '"' + text,
            "sep=;\n" + text,
            json.dumps({str(i): row for i, row in enumerate(rows)}),
            json.dumps({name: [row.get(name) for row in rows] for name in rows[0]}),
            json.dumps(json.dumps(rows)),
            json.dumps([rows, rows]),
        ]
    ).encode()


def bomb(form: str, rows: list[dict[str, Any]], rng: random.Random) -> bytes:
    """A file that unpacks to much more than it is: very many blanks, brackets or commas, or a long text named often."""
    if form in COLUMN_FORMS:
        n = 300
        long = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), ["x" * (1 << 16)])
        name = rng.choice(["prompt", "response", "user"])
        out = io.BytesIO()
        pq.write_table(pa.table({**texts(rows[:1] * n), name: long}), out, compression="zstd", store_schema=False)
        return out.getvalue()
    n = 1 << 17
    filling = rng.choice([b" ", b"[", b'{"a":', b",", b'"', b"9", b"\n", b"[],", b"{}\n", b"1,", b"\0", b"\\u0000"])
    line = json.dumps(rows[0]).encode()
    data = rng.choice(
        [line + b"\n" + filling * n, filling * n, b"[" + line + b"," + filling * n, b'{"data":[' + filling * n]
    )
    return zipped(data) if form.endswith("gz") else data


# What must hold -------------------------------------------------------------------------------------------------------


def assert_exact(part: Part) -> None:
    """Every row is kept or counted with a reason, and what was kept is records."""
    assert part.kept + sum(part.dropped.values()) == part.rows
    assert all(count > 0 for count in (*part.dropped.values(), *part.partial.values()))
    assert bool(part.records) == (part.kept > 0)
    assert all(isinstance(found, KINDS[kind]) and len(found) for kind, found in part.records.items())


def attempt(case: Case, home: Store, **settings: Any) -> Part | None:
    """The counts of a file whose records a store took, or None if it was refused as a whole.

    Whoever calls this reports any exception that is not ours.
    """
    whole = Part()
    try:
        for part in stream(case.path, **settings).parts:
            assert_exact(part)
            records = list(part.records.values())
            [added] = home.add_steps([records])
            assert added.new + added.known == sum(map(len, records))
            whole = together([whole, replace(part, records={})])
    except PenchantError as error:
        str(error).encode()
        return None
    if case.rows is not None:
        assert whole.rows == case.rows, f"{whole.rows} rows of {case.rows}: {whole.dropped}"
    return whole


def main() -> None:
    """Import as many as asked for, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="malformed files to import")
    parser.add_argument("--seed", type=int, default=0, help="the first; each file has the next")
    parser.add_argument(
        "--json", metavar="FILE", help="where the result goes as one line of JSON; - is standard output"
    )
    asked = parser.parse_args()
    warnings.simplefilter("error")
    counts, forms, damages, reasons = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    slowest = 0.0
    begun = time.monotonic()
    home = Store("sqlite://")
    with tempfile.TemporaryDirectory(prefix="penchant-fuzz-") as folder:
        for seed in range(asked.seed, asked.seed + asked.inputs):
            case = made(seed, Path(folder))
            home = Store("sqlite://") if seed % 50 == 0 else home
            for settings in ({}, {"format": case.format}):
                start = time.monotonic()
                try:
                    imported = attempt(case, home, **settings)
                except BaseException:
                    print(f"seed {seed}: {case} {settings}", file=sys.stderr)
                    raise
                slowest = max(slowest, time.monotonic() - start)
                if imported is None:
                    counts["refused_as_a_whole"] += 1
                else:
                    counts["read"] += 1
                    counts["rows"] += imported.rows
                    counts["kept"] += imported.kept
                    counts["dropped"] += sum(imported.dropped.values())
                    reasons.update(imported.dropped)
            forms[case.form] += 1
            damages[case.damage] += 1
            case.path.unlink()
            if (seed + 1) % 500 == 0:
                print(f"{seed + 1 - asked.seed} files", file=sys.stderr, flush=True)
    result = {
        "inputs": asked.inputs,
        "imports": 2 * asked.inputs,
        "crashes": 0,
        "rows_neither_kept_nor_counted": counts["rows"] - counts["kept"] - counts["dropped"],
        **counts,
        "different_reasons": len(reasons),
        "forms": dict(sorted(forms.items())),
        "damages": dict(sorted(damages.items())),
        "slowest_import_seconds": round(slowest, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": round(time.monotonic() - begun, 1),
        "seed": asked.seed,
    }
    line = json.dumps(result)
    if asked.json and asked.json != "-":
        Path(asked.json).write_text(line + "\n", encoding="utf-8")
    else:
        print(line)


if __name__ == "__main__":
    main()
