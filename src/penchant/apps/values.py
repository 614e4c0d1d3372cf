"""`penchant evaluate values`: how far and when a model's values moved while it was trained."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

import penchant
from penchant.align.checkpoints import POLICY, checkpoint_at, step_of
from penchant.align.recipe import read_run
from penchant.apps import report
from penchant.apps.outcome import Outcome
from penchant.cache import RowCache, content_key
from penchant.chat import Cached, chat_model
from penchant.errors import DataError, SettingsError
from penchant.evaluate.stances import YES_NO, ChatJudge, Likelihood, Probe, Probes, Reader, Reading, Sampled
from penchant.evaluate.value_probes import FACTS, built_in
from penchant.evaluate.values import (
    Checkpoint,
    TopicDrift,
    Track,
    noise_floor,
    require_ordered,
    share_known,
    topic_values,
    total_variation,
)
from penchant.exchange import write_json
from penchant.feedback.chunk import shown
from penchant.feedback.reading import chunks

REPORT, TABLE, DRIFTS = "report.html", "values.json", "drifts.json"


@dataclass(frozen=True)
class _Place:
    """Where a checkpoint lies, and when in training it was written."""

    stage: str
    step: int
    model: str


def values(
    checkpoints: tuple[str, ...] = (),
    *,
    probes: Path | None = None,
    topics: tuple[str, ...] = (),
    mode: Literal["likelihood", "sampled"] = "likelihood",
    sharpness: float = 1.0,
    judge: str = "",
    n: int = 4,
    max_new_tokens: int = 48,
    repeats: tuple[str, ...] = (),
    ability: bool = True,
    out: Path = Path("values"),
    seed: int = 0,
) -> Outcome:
    """What a model supports and opposes at each checkpoint of its training; a table, a verdict and a plot per topic.

    Give checkpoints in the order of training: a model's name, the folder of a policy, or the folder of a run of
    `penchant align` (which stands for all the checkpoints it kept and the policy it ended with). `penchant evaluate
    values small-chat aligned` compares a model with what became of it. Models that are named one after the other are
    numbered. Readings are kept in `out`: the same command goes on where it was stopped.

    Args:
        checkpoints: models, policies and runs, in order.
        probes: records with `topic`, `prompt` and `polarity` (1 if "yes" sides with the topic, -1 if against it); 220
            built-in questions on eleven topics without it.
        topics: only these.
        mode: likelihood scores prepared answers, without noise; sampled judges what the model says.
        sharpness: in likelihood mode, what log-probabilities per token are multiplied by.
        judge: in sampled mode a chat model, such as small-chat or the URL of a server; words without it.
        n: responses to each question in sampled mode.
        max_new_tokens: longest response in sampled mode.
        repeats: what the same training ended with under other seeds: how far these lie apart is the noise floor.
            Without it, in sampled mode, the floor is that of sampling alone.
        ability: ask twenty plain questions too, to tell drift from damage.
        out: folder of the report, the table, the plots and the readings.
        seed: of sampling and resampling.
    """
    asked = _probes(probes, topics)
    places = _places(checkpoints)
    # What cannot be right is found out before a model is loaded.
    blank = Reading(np.full((len(asked), 3), 1 / 3), np.zeros(len(asked)))
    require_ordered([Checkpoint(place.stage, place.step, blank) for place in places])
    reader, described = _reader(mode, sharpness, judge, n, max_new_tokens, seed)
    session = _Session(asked, reader, described, out / "readings", ability)
    read = [session.read(place) for place in tqdm(places, desc="checkpoints", file=sys.stderr)]
    track = Track(read, asked, seed=seed)
    floor = _floor(session, places[-1], repeats, read[-1], mode, (sharpness, judge, n, max_new_tokens, seed + 1))
    drifts = track.drifts(floor=floor)
    rows = track.table()
    write_json(out / TABLE, rows)
    plots = _plots(rows, asked.topics, out)
    found: dict[str, Any] = {
        "drifts": [_plain(one) for one in drifts],
        "empty": sum(one.reading.n_empty for one in read),
        "responses": sum(one.reading.n_responses for one in read),
        "ability": [one.ability for one in read],
        "own_template": session.templates,
        "one_sided": list(asked.one_sided),
        "table": str(out / TABLE),
        "report": str(out / REPORT),
    }
    write_json(out / DRIFTS, found)
    table = _table(drifts)
    remarks = _remarks(found, mode)
    _page(out, track, drifts, table, plots, remarks, described)
    text = "\n\n".join([table.text(), *(one.sentence() for one in drifts), *remarks, f"The report: {out / REPORT}"])
    return Outcome(found, text)


def _probes(path: Path | None, topics: tuple[str, ...]) -> Probes:
    if path is None:
        known = built_in().topics
        unknown = [name for name in topics if name not in known]
        if unknown:
            raise SettingsError(f"topics: there is no {unknown[0]!r}; there are {', '.join(known)}.")
        return built_in(topics)
    rows = []
    for number, record in enumerate((row for chunk in chunks(path) for row in chunk.listed()), 1):
        if not isinstance(record.get("topic"), str) or not isinstance(record.get("prompt"), str):
            raise DataError(f"{shown(path)}, record {number}: `topic` and `prompt` must be texts: {sorted(record)}.")
        polarity = record.get("polarity", 1)
        try:
            rows.append(Probe(record["topic"], record["prompt"], int(polarity)))
        except (TypeError, ValueError) as error:
            raise DataError(f"{shown(path)}, record {number}: `polarity` is {polarity!r}; it is 1 or -1.") from error
    return Probes.of([row for row in rows if not topics or row.topic in topics])


def _places(names: Sequence[str]) -> list[_Place]:
    found: list[_Place] = []
    stages: set[str] = set()
    for name in names:
        folder = Path(name)
        run = _of_run(folder) if folder.is_dir() else []
        if run:
            stage = folder.resolve().name if folder.resolve().name not in stages else name
            found += [_Place(stage, step, str(path)) for step, path in run]
        elif found and found[-1].stage.startswith("models"):
            found.append(_Place(found[-1].stage, found[-1].step + 1, name))
            continue
        else:
            stage = "models" if "models" not in stages else f"models {len(found) + 1}"
            found.append(_Place(stage, 0 if not found else 1, name))
        stages.add(stage)
    return found


def _of_run(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints of a run with their steps, and the policy it ended with; nothing if this is no run's folder."""
    steps = sorted(
        step_of(path)
        for path in folder.glob("checkpoint-*")
        if path.is_dir() and path.name.removeprefix("checkpoint-").isdecimal()
    )
    found = [(step, checkpoint_at(folder, step)) for step in steps]
    result = read_run(folder).get("result")
    if result and (folder / POLICY).is_dir():
        last = int(result["steps"])
        found = [one for one in found if one[0] != last] + [(last, folder / POLICY)]
    return found


def _reader(
    mode: str, sharpness: float, judge: str, n: int, max_new_tokens: int, seed: int
) -> tuple[Reader, dict[str, Any]]:
    """How a policy is read, and what to know the reading by."""
    if mode == "likelihood":
        cheap = Likelihood(sharpness=sharpness)
        return cheap, {"mode": mode, "sharpness": sharpness, "completions": cheap.completions}
    judging = ChatJudge(Cached(chat_model(judge), RowCache())) if judge else YES_NO
    settings: dict[str, Any] = {"n": n, "max_new_tokens": max_new_tokens, "seed": seed}
    return Sampled(judging, **settings), {"mode": mode, "judge": judging.name, **settings}


class _Session:
    """Reads checkpoints one after the other, with the chat template of the first, and keeps the readings."""

    def __init__(self, probes: Probes, reader: Reader, described: Any, folder: Path, ability: bool) -> None:
        self.probes, self.reader, self.described, self.folder, self.ability = probes, reader, described, folder, ability
        self.template: Any = None
        self.is_first = True
        self.templates: list[dict[str, Any]] = []

    def read(self, place: _Place) -> Checkpoint:
        """What a checkpoint says; a template of its own is reported beside, never mixed in."""
        from penchant.policies.language import LanguagePolicy  # torch takes seconds, which `--help` need not wait for

        folder = Path(place.model)
        policy = LanguagePolicy.saved(folder) if folder.is_dir() else LanguagePolicy(place.model)
        own: Any = policy.tokenizer.chat_template
        if self.is_first:
            self.template, self.is_first = own, False
        policy.tokenizer.chat_template = self.template
        reading, able = self._kept(policy)
        if own != self.template:
            policy.tokenizer.chat_template = own
            theirs, _ = self._kept(policy)
            apart = total_variation(topic_values(theirs, self.probes) - topic_values(reading, self.probes))
            self.templates.append({"stage": place.stage, "step": place.step, "variation": float(apart.mean())})
        tokens = content_key(json.dumps(policy.tokenizer.get_vocab(), sort_keys=True))
        return Checkpoint(place.stage, place.step, reading, able, tokens)

    def again(self, place: _Place, reader: Reader, described: Any) -> Reading:
        """The same checkpoint, read otherwise."""
        other = _Session(self.probes, reader, described, self.folder, ability=False)
        other.template, other.is_first = self.template, False
        return other.read(place).reading

    def _kept(self, policy: Any) -> tuple[Reading, float | None]:
        from penchant.policies.fingerprint import fingerprint

        asked = [self.probes.prompts, self.probes.topic.tolist(), self.probes.polarity.tolist()]
        template = policy.tokenizer.chat_template
        key = content_key(fingerprint(policy.model), json.dumps([asked, self.described, template, self.ability]))
        path = self.folder / f"{key}.json"
        if not path.exists():
            reading = self.reader(policy, self.probes)
            able = share_known(policy, FACTS) if self.ability else None
            stances = np.where(np.isfinite(reading.stances), reading.stances, -1.0)  # JSON has no NaN
            refusals = np.where(np.isfinite(reading.refusals), reading.refusals, -1.0)
            counts = [reading.n_empty, reading.n_responses]
            write_json(
                path,
                {"stances": stances.tolist(), "refusals": refusals.tolist(), "counts": counts, "ability": able},
            )
        kept = json.loads(path.read_text(encoding="utf-8"))
        stances, refusals = (np.array(kept[name], dtype=np.float64) for name in ("stances", "refusals"))
        stances[stances < 0], refusals[refusals < 0] = np.nan, np.nan
        return Reading(stances, refusals, *kept["counts"]), kept["ability"]


def _floor(session: _Session, last: _Place, repeats: Sequence[str], read: Checkpoint, mode: str, otherwise: Any) -> Any:
    """Total variation of each topic that no training explains, if it can be told."""
    if repeats:
        ends = [(_of_run(Path(name)) or [(1, Path(name))])[-1][1] for name in repeats]
        readings = [session.read(_Place(last.stage, last.step, str(end))).reading for end in ends]
    elif mode == "sampled":
        readings = [session.again(last, *_reader(mode, *otherwise))]
    else:
        return None
    return noise_floor([topic_values(one, session.probes) for one in (read.reading, *readings)])


def _plots(rows: Sequence[dict[str, Any]], topics: Sequence[str], out: Path) -> list[tuple[str, str]]:
    """One for each topic, also as a file, over all steps that were taken."""
    places: dict[tuple[str, int], float] = {}
    begins: dict[str, float] = {}
    before, end = 0.0, 0.0
    for row in rows:
        if row["stage"] not in begins:
            before = begins[row["stage"]] = end
        end = places[row["stage"], row["step"]] = before + row["step"]
    found = []
    for topic in topics:
        lines: dict[str, list[report.Point]] = {}
        for row in rows:
            if row["topic"] == topic:
                point = (places[row["stage"], row["step"]], row["value"], row["ci_low"], row["ci_high"])
                lines.setdefault(row["stance"], []).append(point)
        if not any(point[1] for point in lines["refusal"]):
            del lines["refusal"]
        named = {begin: stage for stage, begin in begins.items()}  # a model that a stage starts from takes no room
        svg = report.course(lines, axis="step", ylabel=topic, stages={name: at for at, name in named.items()})
        path = out / "plots" / f"{re.sub(r'[^a-z0-9]+', '-', topic.lower()).strip('-') or 'topic'}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(svg, encoding="utf-8")
        found.append((svg, f"Values on {topic} over the steps of training, with 95 % intervals over prompts."))
    return found


def _plain(one: TopicDrift) -> dict[str, Any]:
    return asdict(one) | {"time": one.time._asdict(), "is_clear": one.is_clear, "sentence": one.sentence()}


def _table(drifts: Sequence[TopicDrift]) -> report.Table:
    return report.Table(
        ("stage", "topic", "support", "neutral", "oppose", "total", "time"),
        [
            [
                one.stage,
                one.topic,
                *(f"{interval.estimate:+.2f}" for interval in one.magnitude.values()),
                f"{one.variation.estimate:.2f} [{one.variation.low:.2f}, {one.variation.high:.2f}]",
                f"{one.time.to_band:.2f}" if one.is_clear else "-",
            ]
            for one in drifts
        ],
        "Drift of each stance from the start of a stage to its end, the total variation with its interval over "
        "prompts, and after which share of the steps the value was where it went (- where it did not clearly move).",
    )


def _remarks(found: dict[str, Any], mode: str) -> list[str]:
    lines = []
    if mode == "likelihood":
        lines.append(
            "Likelihood mode reads inclination on a scale of its own: hold it against --mode sampled on one checkpoint."
        )
    if found["empty"]:
        lines.append(f"{found['empty']} of {found['responses']} responses were empty and left out.")
    if found["own_template"]:
        parts = [f"{one['stage']} {one['step']}: {one['variation']:.2f}" for one in found["own_template"]]
        lines.append(
            f"All checkpoints were asked with the chat template of the first. With their own, values differ by (total "
            f"variation): {', '.join(parts)}."
        )
    if found["one_sided"]:
        lines.append(
            f"Without reversed wordings, where yes to everything looks like a value: {', '.join(found['one_sided'])}."
        )
    return lines


def _page(
    out: Path,
    track: Track,
    drifts: Sequence[TopicDrift],
    table: report.Table,
    plots: Sequence[tuple[str, str]],
    remarks: Sequence[str],
    described: dict[str, Any],
) -> None:
    report.write(
        out / REPORT,
        title="Values over training",
        lead=f"{len(track.checkpoints)} checkpoints in {len(track.stages)} stages, {len(track.probes)} questions on "
        f"{len(track.probes.topics)} topics, {described['mode']} mode.",
        sections=[
            report.Section("Drift by stage and topic", remarks, [table]),
            report.Section("Verdicts", [one.sentence() for one in drifts]),
            report.Section("Topic by topic", plots=plots),
        ],
        footer=f"penchant {penchant.__version__}. Made by `penchant evaluate values`; after Bhatia et al. (2025).",
    )
