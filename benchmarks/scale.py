"""What a 7B model on 8 GPUs and 100 million comparisons cost, worked out from bytes and seconds measured here.

    python benchmarks/scale.py [--quick] [--json -]

Three kinds of number are kept apart. COUNTED ones are exact: parameters, floating-point operations and bytes kept for
the backward pass of a 7B model, counted by torch on its meta device, which computes nothing. MEASURED ones are seconds
and bytes a row of this code on this machine. ASSUMED ones describe a machine that is not here, and stand in one table.
`worked_out` is arithmetic on the three; every line of it is a formula in its docstring.

Source:
    Kaplan et al. 2020, "Scaling laws for neural language models", section 2.1 (2 N operations a token forward).
    Rajbhandari et al. 2020, "ZeRO", section 7 (sharding weights, gradients and states moves 3 N numbers a step).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paired import RESULTS, Found, Result, Stopwatch, apart, arguments, peak_mib, single_token_words

ROWS, USERS = 100_000_000, 1_000_000
PROMPT, ANSWER = 256, 256  # tokens of the comparisons that are worked out
ASSUMED: dict[str, tuple[float, str]] = {
    "gpus": (8, "GPUs in one machine"),
    "gpu_memory": (80e9, "bytes of memory of a GPU (H100 SXM, data sheet)"),
    "gpu_flops": (989e12, "dense bf16 operations a second of a GPU (H100 SXM, data sheet)"),
    "utilisation": (
        0.4,
        "share of those that training and scoring reach; between what is commonly reported, 0.3 to 0.5",
    ),
    "gpu_bandwidth": (3.35e12, "bytes a second from a GPU's memory (H100 SXM, data sheet)"),
    "link_bandwidth": (450e9, "bytes a second each way between GPUs (NVLink 4, data sheet)"),
    "link_share": (0.7, "share of it that collectives reach"),
    "cores": (96, "processor cores of that machine"),
    "host_memory": (1e12, "bytes of memory of that machine"),
}


# Formulas ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """A decoder with gated feed-forward layers, as Llama, Mistral and SmolLM are; by default Mistral's of 7B."""

    vocabulary: int = 32_768
    dim: int = 4096
    inner: int = 14_336
    layers: int = 32
    heads: int = 32
    key_heads: int = 8
    head_dim: int = 128
    tied: bool = False

    def block(self) -> int:
        """Weights of a layer's matrices: queries and output, keys and values, the gated feed-forward."""
        attention = 2 * self.dim * self.heads * self.head_dim + 2 * self.dim * self.key_heads * self.head_dim
        return attention + 3 * self.dim * self.inner

    def parameters(self) -> int:
        """All weights: matrices, norms, embedding, and the head where it is another matrix."""
        norms = (2 * self.layers + 1) * self.dim
        return self.layers * self.block() + norms + (2 - self.tied) * self.vocabulary * self.dim

    def forward_flops(self, context: int, predicted: float) -> float:
        """Operations a token: two a weight, two products with `context` others, the head where it predicts."""
        attention = 4 * context * self.heads * self.head_dim
        return self.layers * (2 * self.block() + attention) + predicted * 2 * self.vocabulary * self.dim

    def key_value_bytes(self) -> int:
        """Bytes a token in the cache of keys and values, bf16."""
        return 2 * self.layers * self.key_heads * self.head_dim * 2

    def config(self) -> Any:
        """As transformers builds it."""
        from transformers import MistralConfig

        return MistralConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.dim,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            head_dim=self.head_dim,
            sliding_window=None,
            tie_word_embeddings=self.tied,
        )


def counted(architecture: Architecture, width: int) -> Found:
    """Parameters, operations and bytes kept for the backward pass, a token, of one row of `width` tokens.

    The model is on torch's meta device. Attention there keeps its scores, [heads, width, width], which the kernels of a
    GPU do not; they are replaced by what these keep, the inputs and the output.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture.config(), dtype=torch.bfloat16)
        ids = torch.zeros(1, width, dtype=torch.int64)
        mask = torch.zeros(1, 1, width, width, dtype=torch.bool)
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, tuple[int, tuple[int, ...], Any]] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes(), tuple(tensor.shape), storage  # held, or its number is given again
        return tensor

    forward = FlopCounterMode(display=False)
    with forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = model.model(input_ids=ids, attention_mask=mask, position_ids=ids).last_hidden_state
    both = FlopCounterMode(display=False)
    with both:
        states.sum().backward()
    of_scores = sum(size for size, shape, _ in kept.values() if shape[0] == architecture.heads)
    attended = 2 * (architecture.heads + architecture.key_heads) * architecture.head_dim * 2 * architecture.layers
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "forward_flops_per_token": forward.get_total_flops() / width,
        "backward_over_forward": both.get_total_flops() / forward.get_total_flops(),
        "kept_bytes_per_token": (sum(size for size, _, _ in kept.values()) - of_scores) / width + attended,
    }


# Measurements --------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def comparisons(n: int, words: int = 60) -> Any:
    """Comparisons of random words by a hundredth as many people: a prompt and two answers of as many words each."""
    from penchant.records import Comparisons

    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    known = np.array(["".join(rng.choice(letters, size)) for size in rng.integers(2, 10, 5_000)])
    texts = [" ".join(known[row]) for row in rng.integers(5_000, size=(4_096, words))]
    drawn = rng.integers(4_096, size=(n, 3)).tolist()
    return Comparisons.from_rows(
        {
            "prompt": texts[prompt],
            "chosen": f"{texts[better]} {i}.",
            "rejected": f"{texts[worse]}.",
            "user": f"user {i % max(1, n // 100)}",
            "source": "made",
        }
        for i, (prompt, better, worse) in enumerate(drawn)
    )


def of_records(n: int, folder: Path) -> Found:
    """Bytes a comparison in memory, in Parquet and in a store, and how fast a store takes and gives them."""
    from penchant.exchange import writing
    from penchant.store import Store

    records = comparisons(n)
    with writing(folder / "rows.parquet") as write:
        write(records)
    home = Store(f"sqlite:///{folder}/rows.db")
    with Stopwatch() as adding:
        home.add(records)
    with Stopwatch() as reading:
        home.records("comparison")
    return {
        "text_bytes": float(
            sum(len(text) for name in ("prompt", "chosen", "rejected") for text in records.table[name].to_pylist())
        )
        / n,
        "arrow_bytes": records.table.nbytes / n,
        "parquet_bytes": (folder / "rows.parquet").stat().st_size / n,
        "sqlite_bytes": sum(file.stat().st_size for file in folder.glob("rows.db*")) / n,
        "sqlite_add_us": adding.wall / n * 1e6,
        "sqlite_read_us": reading.wall / n * 1e6,
    }


def of_postgresql(n: int, url: str) -> Found:
    """The same of a PostgreSQL store."""
    import sqlalchemy

    from penchant.store import Store

    records = comparisons(n)
    home = Store(url)
    with Stopwatch() as adding:
        home.add(records)
    with Stopwatch() as reading:
        home.records("comparison")
    with sqlalchemy.create_engine(url.replace("postgresql", "postgresql+psycopg")).connect() as connection:
        [size] = connection.exec_driver_sql("SELECT pg_total_relation_size('comparisons')").one()
    return {
        "postgresql_bytes": size / n,
        "postgresql_add_us": adding.wall / n * 1e6,
        "postgresql_read_us": reading.wall / n * 1e6,
    }


def of_cache(n: int, folder: Path) -> Found:
    """Bytes a value of 8 bytes takes in the cache, and how long putting and finding one takes at this size."""
    from penchant.cache import RowCache, content_key

    cache = RowCache(folder / "rows.sqlite", limit=2**40)
    keys = [content_key(str(i)) for i in range(n)]
    with Stopwatch() as putting:
        for start in range(0, n, 1000):
            cache.put_many("log-probabilities", {key: b"12345678" for key in keys[start : start + 1000]})
    asked = [keys[i] for i in np.random.default_rng(0).integers(n, size=20_000)]
    with Stopwatch() as finding:
        assert None not in cache.get_many("log-probabilities", asked)
    return {
        "cache_bytes": sum(file.stat().st_size for file in folder.glob("rows.sqlite*")) / n,
        "cache_put_us": putting.wall / n * 1e6,
        "cache_find_us": finding.wall / len(asked) * 1e6,
    }


def of_examples(n: int) -> Found:
    """Seconds and bytes a comparison from its records to a batch, tokens as this code holds them."""
    from transformers import AutoTokenizer

    from penchant.align.batches import Collator, Shares, encode, plan
    from penchant.align.dpo import DPO
    from penchant.policies.pretrained import folder_of
    from penchant.policies.rendering import encode as rendered
    from penchant.records import Comparisons

    class Tokens:
        """A policy without its weights."""

        tokenizer = AutoTokenizer.from_pretrained(folder_of("small-chat"))

        def encode(self, prompt: str, responses: list[str], *, condition: str | None = None, form: Any = "text") -> Any:
            ends = {self.tokenizer.eos_token_id}
            return rendered(self.tokenizer, prompt, responses, condition=condition, form=form, end_tokens=ends)

    policy = Tokens()
    words, rng = single_token_words(policy.tokenizer), np.random.default_rng(0)

    def text(size: int) -> str:
        return " ".join(rng.choice(words, size))

    records = Comparisons.from_rows(
        {"prompt": text(PROMPT), "chosen": text(ANSWER), "rejected": text(ANSWER), "user": "ann"} for _ in range(n)
    )
    encode(DPO(), policy, records.take(range(10)))
    before = resident()
    with Stopwatch() as encoding:
        rows, _ = encode(DPO(), policy, records)
    held = resident() - before
    n_planned = 1_000_000
    before = resident()
    with Stopwatch() as planning:
        planned = plan([768] * n_planned, epochs=1, examples_per_batch=16)
        shares = Shares(planned)
    plan_held = resident() - before
    collate = Collator(rows, pad=0, use_packing=True)
    parts = [shares[i] for i in range(len(shares))][: max(1, n // 16)]
    parts = [type(parts[0])([row % n for row in part.rows], part.weights, part.n_examples) for part in parts]
    with Stopwatch() as collating:
        for part in parts:
            collate([part])
    tokens = sum(row.tokens.n_tokens for row in rows) / n
    return {
        "example_tokens": tokens,
        "tokenise_us": encoding.wall / n * 1e6,
        "example_bytes": held / n,
        "plan_us": planning.wall / n_planned * 1e6,
        "plan_bytes": plan_held / n_planned,
        "collate_us": collating.wall / sum(len(part.rows) for part in parts) * 1e6,
    }


def of_training(folder: Path) -> Found:
    """Operations a second that the small model reaches here on a packed comparison, and a plain product of matrices."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from penchant.policies import Example, LanguagePolicy, packed, token_log_probabilities

    policy = LanguagePolicy(precision="float32")
    rng = np.random.default_rng(0)
    tokens = [tuple(rng.integers(1000, 40_000, size).tolist()) for size in (PROMPT, ANSWER, ANSWER)]
    batch = packed([Example(tokens[0], (tokens[1], tokens[2]))], pad=0)
    width = batch["input_ids"].shape[1]
    square = torch.ones(1024, 1024)
    found: Found = {}
    with torch.no_grad():
        square @ square
        with Stopwatch() as watch:
            for _ in range(20):
                square @ square
        found["product_flops"] = 20 * 2 * 1024**3 / watch.wall
        token_log_probabilities(policy.model, batch)
        with Stopwatch() as watch:
            token_log_probabilities(policy.model, batch)
        found["forward_tokens_per_second"] = width / watch.wall
    with FlopCounterMode(display=False) as flops, Stopwatch() as watch:
        token_log_probabilities(policy.model, batch).sums().sum().backward()
    found["training_tokens_per_second"] = width / watch.wall
    found["training_flops"] = flops.get_total_flops() / watch.wall
    return found


def of_encoding(n: int) -> Found:
    """Texts a second that MiniLM reads on one core."""
    import torch

    from penchant.encoders import MiniLM

    torch.set_num_threads(1)
    texts = comparisons(n).table["chosen"].to_pylist()
    encoder = MiniLM()
    encoder.encode(texts[:8])
    with Stopwatch() as watch:
        encoder.encode(texts)
    return {"texts_per_second_per_core": n / watch.wall}


def of_fitting(n: int) -> Found:
    """Bytes and seconds a comparison that one model for everybody takes, on vectors of 384 numbers."""
    from penchant.preference.newton import newton

    dim, rng = 384, np.random.default_rng(0)
    difference = rng.normal(size=(n, dim))
    wins = (difference @ rng.normal(size=dim) * 0.1 + rng.logistic(size=n) > 0).astype(float)
    before = peak_mib()
    with Stopwatch() as watch:
        fit = newton(difference, wins, l2=1.0)
    vectors = 3 * dim * 8  # of both answers, and their difference
    return {
        "fit_us": watch.wall / n * 1e6,
        "fit_passes": float(fit.n_steps),
        "fit_bytes": vectors + (peak_mib() - before) * 2**20 / n,
    }


def of_parts(n: int, workers: int, folder: Path) -> Found:
    """Seconds and memory of rows that go through `penchant batch` with next to nothing to do to them."""
    from penchant.apps.batch import batch
    from penchant.apps.tasks import Encode
    from penchant.exchange import writing

    with writing(folder / "rows.parquet") as write:
        for start in range(0, n, 10_000):  # so that the memory measured is that of the batch
            write(comparisons(min(10_000, n - start), words=10))
    encode = Encode("style", column="prompt")
    with Stopwatch() as watch:
        batch("encode", str(folder / "rows.parquet"), out=folder / "out.parquet", encode=encode, workers=workers)
    return {"seconds": watch.wall, "peak_mib": peak_mib()}


def of_steps(n: int) -> Found:
    """Seconds a step of sampling takes where the model has next to nothing to compute: what Python costs."""
    import torch
    from transformers import AutoModelForCausalLM

    from penchant.policies.sampling import sample_tokens

    torch.set_num_threads(1)
    torch.manual_seed(0)
    small = Architecture(vocabulary=512, dim=16, inner=32, layers=32, heads=2, key_heads=1, head_dim=8)
    model = AutoModelForCausalLM.from_config(small.config()).eval()
    sample_tokens(model, [[1, 2, 3]], 8, end_tokens=[], pad=0, max_new_tokens=4)
    with Stopwatch() as watch:
        sample_tokens(model, [[1, 2, 3]], 8, end_tokens=[], pad=0, max_new_tokens=n)
    return {"step_ms": watch.wall / n * 1e3}


@contextmanager
def postgresql() -> Iterator[str | None]:
    """The URL of a PostgreSQL with its usual settings on loopback, for as long as it is needed; None without one."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = Path(shutil.which("initdb") or (folders[-1] / "initdb" if folders else "")).parent
    if not (programs / "initdb").exists():
        yield None
        return
    with tempfile.TemporaryDirectory() as home, socket.socket() as free:
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
        if as_user:
            shutil.chown(home, "postgres", "postgres")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        control = [*as_user, programs / "pg_ctl", "-D", f"{home}/data", "-l", f"{home}/log"]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home}"
        silent: Any = {"check": True, "capture_output": True, "cwd": home}
        subprocess.run([*as_user, programs / "initdb", "-D", f"{home}/data", "-A", "trust", "-U", "postgres"], **silent)
        subprocess.run([*control, "-o", options, "-w", "start"], **silent)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "fast", "stop"], **silent)


MEASURES: dict[str, Callable[..., Found]] = {
    "counted": lambda work, folder: counted(Architecture(), work["n"]),
    "records": lambda work, folder: of_records(work["n"], folder),
    "postgresql": lambda work, folder: of_postgresql(work["n"], work["url"]),
    "cache": lambda work, folder: of_cache(work["n"], folder),
    "examples": lambda work, folder: of_examples(work["n"]),
    "training": lambda work, folder: of_training(folder),
    "encoding": lambda work, folder: of_encoding(work["n"]),
    "fitting": lambda work, folder: of_fitting(work["n"]),
    "parts": lambda work, folder: of_parts(work["n"], work["workers"], folder),
    "steps": lambda work, folder: of_steps(work["n"]),
}


# Arithmetic on what was counted, measured and assumed ----------------------------------------------------------------


def worked_out(count: Found, measured: Found, given: Found, architecture: Architecture = Architecture()) -> Found:
    """Hours and bytes of every stage, for `ROWS` comparisons of `PROMPT` and twice `ANSWER` tokens.

    With N weights, W GPUs, T tokens: training all weights takes the operations of three forward passes, an adapter two,
    the reference one. A packed row has PROMPT + 2 ANSWER tokens, of which 2 ANSWER are predicted; two padded rows have
    2 (PROMPT + ANSWER).

    Args:
        count: from `counted`.
        measured: every measurement by its name.
        given: the assumptions by name.
        architecture: of the model.
    """
    width = PROMPT + 2 * ANSWER
    n, gpus = count["parameters"], given["gpus"]
    forward = width * architecture.forward_flops(width, 2 * ANSWER / width)
    speed = gpus * given["gpu_flops"] * given["utilisation"]

    def gpu_hours(flops_per_row: float) -> float:
        return ROWS * flops_per_row / speed / 3600

    def here_hours(microseconds: float, cores: float = 1) -> float:
        return ROWS * microseconds / 1e6 / cores / 3600

    adapter = _adapter(architecture, rank=16)
    block = architecture.block()
    recomputed = architecture.layers * architecture.dim * 2 + count["kept_bytes_per_token"] / architecture.layers
    # A step hides its traffic behind the computation of so many tokens a GPU: 6 N T / speed = 3 gathers of 2 N bytes.
    moved = 3 * 2 * n * (gpus - 1) / gpus
    per_gpu = given["gpu_flops"] * given["utilisation"]
    hidden = moved / (given["link_bandwidth"] * given["link_share"]) * per_gpu / (6 * n)
    state = {"full": 16 * n / gpus, "adapter": (2 * n + 16 * adapter) / gpus}
    fixed = 2 * 2 * block * 2 + 2**26 * 8  # two layers gathered in bf16; a part of the logits and its gradient, fp32
    room = {name: given["gpu_memory"] * 0.9 - size - fixed for name, size in state.items()}
    object_bytes = measured["example_bytes"] + measured["plan_bytes"] + measured["arrow_bytes"]
    batch = 64  # answers that grow side by side on a GPU
    context = PROMPT + ANSWER / 2
    decode = (2 * n + batch * context * architecture.key_value_bytes()) / given["gpu_bandwidth"]
    step = max(decode, measured["step_ms"] / 1e3 * architecture.layers / 32)
    return {
        "tokens_per_row": width,
        "tokens_per_row_padded": 2 * (PROMPT + ANSWER),
        "flops_per_row_forward": forward,
        "hours": {
            "import": here_hours(1e6 / measured["parquet_rows_per_second"]),
            "import_sqlite": here_hours(measured["sqlite_add_us"]),
            "import_postgresql": here_hours(measured["postgresql_add_us"]) if measured["postgresql_add_us"] else None,
            "tokenise": here_hours(measured["tokenise_us"]),
            "tokenise_all_cores": here_hours(measured["tokenise_us"], given["cores"]),
            "collate_per_process": here_hours(measured["collate_us"], gpus),
            "encode_all_cores": 2 * ROWS / measured["texts_per_second_per_core"] / given["cores"] / 3600,
            "fit": here_hours(measured["fit_us"]),
            "reference": gpu_hours(forward),
            "reference_cache": here_hours(2 * (measured["cache_put_us"] + measured["cache_find_us"])),
            "train_full": gpu_hours(3 * forward),
            "train_adapter": gpu_hours(2 * forward),
            "train_full_padded": gpu_hours(3 * forward) * 2 * (PROMPT + ANSWER) / width,
            "sample": ROWS * ANSWER * step / batch / gpus / 3600,
        },
        "bytes": {
            "arrow": ROWS * measured["arrow_bytes"],
            "parquet": ROWS * measured["parquet_bytes"],
            "sqlite": ROWS * measured["sqlite_bytes"],
            "postgresql": ROWS * measured["postgresql_bytes"] if measured["postgresql_bytes"] else None,
            "python_objects": ROWS * object_bytes,
            "int32_tokens": ROWS * width * 4,
            "reference_cache": 2 * ROWS * measured["cache_bytes"],
            "vectors": 2 * ROWS * 384 * 4,
            "fit": ROWS * measured["fit_bytes"],
        },
        "per_gpu": {
            "state_full": state["full"],
            "state_adapter": state["adapter"],
            "fixed": fixed,
            "kept_per_token": count["kept_bytes_per_token"],
            "recomputed_per_token": recomputed,
            "tokens_full": room["full"] / count["kept_bytes_per_token"],
            "tokens_adapter": room["adapter"] / count["kept_bytes_per_token"],
            "tokens_full_recomputed": room["full"] / recomputed,
            "moved_per_step": moved,
            "seconds_moved": moved / (given["link_bandwidth"] * given["link_share"]),
            "tokens_that_hide_it": hidden,
        },
        "most_rows_in_memory": given["host_memory"] / (gpus * object_bytes),
        "decode_ms": decode * 1e3,
        "step_ms": step * 1e3,
    }


def _adapter(architecture: Architecture, rank: int) -> int:
    """Weights of LoRA on all matrices of all layers."""
    d, queries = architecture.dim, architecture.heads * architecture.head_dim
    keys = architecture.key_heads * architecture.head_dim
    sides = 2 * (d + queries) + 2 * (d + keys) + 3 * (d + architecture.inner)
    return architecture.layers * rank * sides


# Tables of the documentation -----------------------------------------------------------------------------------------


def shown_bytes(size: float | None) -> str:
    """Bytes in the unit that suits them.

    >>> shown_bytes(2.5e12), shown_bytes(999), shown_bytes(None)
    ('2.5 TB', '999 B', 'not measured')
    """
    if size is None:
        return "not measured"
    power = min(5, max(0, int(np.log10(max(size, 1)) // 3)))
    value = size / 1000**power
    return f"{value:.3g} {['B', 'kB', 'MB', 'GB', 'TB', 'PB'][power]}" if value < 1000 else f"{value:,.0f} PB"


def shown_hours(hours: float | None) -> str:
    """Hours, or days where there are many, or minutes where there is none.

    >>> shown_hours(100), shown_hours(3), shown_hours(0.25)
    ('4.2 days', '3.0 h', '15 min')
    """
    if hours is None:
        return "not measured"
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _table(head: str, rows: list[tuple[str, ...]]) -> str:
    names = head.split("|")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def tables(numbers: Found) -> dict[str, str]:
    """Everything that docs/scale.md names between double braces, by name."""
    count, found, given, out = numbers["counted"], numbers["measurements"], numbers["assumed"], numbers["worked_out"]
    hours, size, gpu = out["hours"], out["bytes"], out["per_gpu"]

    def stage(what: str, formula: str, time_: str | None, bytes_: str | None) -> tuple[str, ...]:
        shown_time = shown_hours(hours[time_]) if time_ else ""
        return what, formula, shown_time, shown_bytes(size[bytes_]) if bytes_ else ""

    stages = [
        stage("import to Parquet, one process", "rows / measured rows a second", "import", "parquet"),
        stage("import to SQLite", "rows x measured µs", "import_sqlite", "sqlite"),
        stage("import to PostgreSQL", "rows x measured µs", "import_postgresql", "postgresql"),
        stage(
            "sentence vectors of both answers, all cores",
            "2 rows / (texts a second x cores)",
            "encode_all_cores",
            "vectors",
        ),
        stage("one model of everybody on them", "rows x measured µs, all in memory", "fit", "fit"),
        stage("tokenise, one process", "rows x measured µs", "tokenise", "python_objects"),
        stage("tokenise, all cores", "the same / cores; as int32", "tokenise_all_cores", "int32_tokens"),
        stage("collate, in each of the GPUs' processes", "rows / GPUs x measured µs", "collate_per_process", None),
        stage("reference log-probabilities", "forward operations", "reference", None),
        stage("... kept in and found in the cache", "2 rows x measured µs", "reference_cache", "reference_cache"),
        stage("train all weights, one epoch", "3 x forward operations", "train_full", None),
        stage("... two padded sequences instead", "x 2 (P + C) / (P + 2 C)", "train_full_padded", None),
        stage("train an adapter, one epoch", "2 x forward operations", "train_adapter", None),
        stage("sample one answer to each prompt", "tokens x step / (64 side by side x GPUs)", "sample", None),
    ]
    memory = [
        ("weights, gradients, Adam, all weights trained", "16 N / GPUs, fp32", shown_bytes(gpu["state_full"])),
        ("the same, an adapter of rank 16", "(2 N + 16 A) / GPUs", shown_bytes(gpu["state_adapter"])),
        ("two layers gathered, a part of the logits", "8 x layer + 8 x 2^26", shown_bytes(gpu["fixed"])),
        ("kept for the backward pass, a token", "counted", shown_bytes(gpu["kept_per_token"])),
        ("... with `recompute: all`", "2 d layers + one layer", shown_bytes(gpu["recomputed_per_token"])),
        ("tokens at once, all weights", "90 % of memory", f"{gpu['tokens_full']:,.0f}"),
        ("... with `recompute: all`", "90 % of memory", f"{gpu['tokens_full_recomputed']:,.0f}"),
        ("tokens at once, an adapter", "90 % of memory", f"{gpu['tokens_adapter']:,.0f}"),
        ("received a step", "3 x 2 N (W - 1) / W", shown_bytes(gpu["moved_per_step"])),
        ("... takes", "/ (link x share)", f"{gpu['seconds_moved'] * 1e3:.0f} ms"),
        ("... hidden from so many tokens a GPU on", "6 N T / speed", f"{gpu['tokens_that_hide_it']:,.0f}"),
    ]
    measured = [(name.replace("_", " "), _digits(value)) for name, value in found.items()]
    assumed = [(meaning, f"{value:,.3g}") for value, meaning in ASSUMED.values()]
    flops = [
        ("weights", f"{count['parameters']:,}", f"{Architecture().parameters():,}"),
        (
            f"operations a token forward, {out['tokens_per_row']} attended to, without the head",
            f"{count['forward_flops_per_token']:.6g}",
            f"{Architecture().forward_flops(out['tokens_per_row'], 0):.6g}",
        ),
        ("operations backward / forward", f"{count['backward_over_forward']:.3g}", "2"),
    ]
    return {
        "stages": _table("stage|formula|time|bytes", stages),
        "memory": _table("of each GPU|formula|", memory),
        "measured": _table("measured here|", measured),
        "assumed": _table("assumed|", assumed),
        "counted": _table("|counted|by formula", flops),
        "tokens": f"{out['tokens_per_row']}",
        "rows_in_memory": f"{out['most_rows_in_memory'] / 1e6:.1f} million",
        "python_bytes": shown_bytes(found["example_bytes"]),
        "int32_bytes": shown_bytes(out["tokens_per_row"] * 4),
        "python_total": shown_bytes(size["python_objects"] * given["gpus"]),
        "train_full": shown_hours(hours["train_full"]),
        "train_adapter": shown_hours(hours["train_adapter"]),
        "train_full_padded": shown_hours(hours["train_full_padded"]),
        "reference": shown_hours(hours["reference"]),
        "tokenise": shown_hours(hours["tokenise"]),
        "cache_total": shown_bytes(size["reference_cache"]),
        "fit_total": shown_bytes(size["fit"]),
        "decode": f"{out['decode_ms']:.1f} ms",
        "step": f"{out['step_ms']:.1f} ms",
        "here": f"{found['training_flops'] / found['product_flops']:.0%}",
    }


def _digits(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


# The run -------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Count, measure each thing in a process of its own, and work out."""
    asked = arguments(str(__doc__))
    if asked.work:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(MEASURES[asked.work["what"]](asked.work, Path(folder))))
        return
    share = 20 if asked.quick else 1
    result = Result("scale", quick=asked.quick, repeats=1, peers=("torch", "transformers", "ray"))

    def measure(what: str, **work: Any) -> Found:
        print(f"  {what} {work}", file=sys.stderr, flush=True)
        return apart({"what": what, **work})

    measured: Found = dict(json.loads((RESULTS / "import.json").read_text()))
    measured = {"parquet_rows_per_second": measured["parquet_rows_per_second"]}
    for what, n in (("records", 200_000), ("examples", 1_000), ("encoding", 400), ("fitting", 100_000), ("steps", 200)):
        measured |= measure(what, n=n // share)
    for n in (100_000, 1_000_000):
        of_size = measure("cache", n=n // share)
        measured |= of_size | {f"cache_find_us_{n // share}": of_size["cache_find_us"]}
    measured |= measure("training", n=1)
    with postgresql() as url:
        none = dict.fromkeys(("postgresql_bytes", "postgresql_add_us", "postgresql_read_us"))
        measured |= measure("postgresql", n=100_000 // share, url=url) if url else none
    for workers in (0, 2):
        small, large = (measure("parts", n=n // share, workers=workers) for n in (20_000, 100_000))
        rows = 80_000 // share
        more = large["seconds"] - small["seconds"]
        measured |= {
            f"batch_rows_per_second_{workers}_workers": rows / more,
            f"batch_start_seconds_{workers}_workers": small["seconds"] - more / 4,
        }
        if not workers:
            measured["batch_memory_5_times_the_rows"] = large["peak_mib"] / small["peak_mib"]
    count = measure("counted", n=PROMPT + 2 * ANSWER)
    given = {name: value for name, (value, _) in ASSUMED.items()}
    result.numbers |= {"counted": count, "measurements": measured, "assumed": given}
    result.numbers["architecture"] = asdict(Architecture())
    result.numbers["worked_out"] = worked_out(count, measured, given)
    result.report(asked)


if __name__ == "__main__":
    main()
