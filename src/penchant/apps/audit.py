"""`penchant audit`: what feedback can measure, what it rewards, and what that would teach; a page to look at."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import penchant
from penchant.apps import report
from penchant.apps.audit_page import Audited, Changed, Feature, Judged, facts, numbers, sections, summary
from penchant.apps.data import Data
from penchant.apps.learn import encoder_of
from penchant.apps.outcome import Outcome
from penchant.cache import RowCache
from penchant.chat import Cached, chat_model
from penchant.errors import DataError, SettingsError
from penchant.evaluate.describe import ByChat, ByPhrases, Describer, description
from penchant.evaluate.explain import (
    Personal,
    apart,
    explanation,
    personal,
    relearnt,
    rewarded,
)
from penchant.exchange import write_json, writing
from penchant.preference.sparse_autoencoder import SparseAutoencoder
from penchant.preference.votes import codes_of, first_and_place, joint_codes, read_votes
from penchant.records import Comparisons
from penchant.style import words_of
from penchant.turns import turns

Floats = NDArray[np.float64]

REPORT, FOUND, RELABELLED = "report.html", "audit.json", "relabelled.jsonl"
_COUNTS = (5, 10)  # features that explain
_FEWEST_CLUSTERS = 30  # of fewer the bootstrap over them says little
_ALIKE = 0.7  # cosine of two directions from which on they are called redundant


def audit(
    file: Path | None = None,
    *,
    data: Data = Data(),
    encoder: str = "minilm",
    prompts: bool = False,
    n_features: int = 32,
    n_active: int = 4,
    chat: str = "",
    n_candidates: int = 5,
    n_measured: int = 300,
    against: tuple[int, ...] = (),
    out: Path = Path("audit"),
    seed: int = 0,
) -> Outcome:
    """What a set of comparisons can measure and what its people prefer, without guessing; a page, and labels to change.

    A sparse autoencoder finds the directions in which the two responses of a pair differ; each gets a name with the
    fidelity of that name, and a weight in who wins at equal length. Five or ten of them are set against a black box on
    the same vectors, on pairs whose texts were never seen. Nothing is sent anywhere unless --chat is a URL.

    Args:
        file: feedback in any format that `penchant import` reads; the store without it.
        data: which of it.
        encoder: how texts become vectors: minilm, style, minilm+style, attributes, or the folder of a reward model.
        prompts: whether the encoder reads the prompt too.
        n_features: directions to look for.
        n_active: directions that a pair has on average.
        chat: chat model that names and judges features: small-chat, a .gguf file or the URL of a server; a built-in
            list of phrases without it.
        n_candidates: names tried for each feature.
        n_measured: pairs on which each name is judged.
        against: numbers of features that must not be rewarded, such as [3, -7]; minus means the opposite of one. Labels
            that reward them are turned round in a copy of the data, and what that changes is measured.
        out: folder of the page, the numbers, the autoencoder and the changed data.
        seed: of everything.
    """
    comparisons, dropped, _ = replace(data, path=file or data.path).comparisons()
    judged = _judged(comparisons, encoder, prompts=prompts, dropped=dropped, seed=seed)
    model = SparseAutoencoder(n_features=n_features, n_active=n_active, seed=seed)
    model.fit(judged.difference[judged.distinct])
    activations = model.activations(judged.difference).astype(np.float64)
    describer = _describer(chat, n_features, n_candidates, n_measured)
    tries: dict[str, Any] = {"n_candidates": n_candidates, "n_measured": n_measured, "n_features": n_features}
    names = [
        description(describer, judged.pairs, column, clusters=judged.clusters, seed=seed, **tries)
        for column in activations.T
    ]
    activations *= [name.sign for name in names]
    measured: dict[str, Any] = {"parts": judged.parts, "seed": seed}
    found = explanation(
        activations,
        judged.length,
        judged.strength,
        black_box=judged.difference,
        clusters=judged.clusters,
        counts=_COUNTS,
        **measured,
    )
    alike = _alike(model.decoder_)
    audited = Audited(
        judged,
        [
            Feature(place + 1, name, effect, alike.get(place + 1))
            for place, (name, effect) in enumerate(zip(names, found.effects, strict=True))
        ],
        activations,
        found,
        _personal(activations, judged, seed),
        _change(activations, judged, against, out, seed),
        model.unexplained(judged.difference[judged.parts.held_out]),
        describer.name,
        dropped,
    )
    model.save(out)
    write_json(out / FOUND, numbers(audited))
    where = file or data.path
    page = sections(audited)
    report.write(
        out / REPORT,
        title=f"What {where.name if where else 'the store'} rewards",
        lead="Found without guessing: directions in which responses differ, their names with the fidelity of each "
        "name, and which of them people prefer at equal length.",
        sections=page,
        footer=f"penchant {penchant.__version__}, seed {seed}, encoder {encoder}, names by {describer.name}. Made by "
        "`penchant audit`; after Movva, Milli, Min and Pierson (2025).",
    )
    text = "\n\n".join([*facts(audited), page[0].tables[0].text(), summary(audited).text()])
    return Outcome(numbers(audited) | {"report": str(out / REPORT)}, f"{text}\n\nThe report: {out / REPORT}")


def _judged(comparisons: Comparisons, encoder: str, *, prompts: bool, dropped: dict[str, int], seed: int) -> Judged:
    """Everything as numbers, pairs without any difference dropped and counted."""
    votes = read_votes(encoder_of(encoder), comparisons if prompts else _without_prompts(comparisons))
    differs = np.flatnonzero((votes.difference != 0).any(axis=1))
    if len(differs) < len(votes):
        dropped["pairs between which the encoder sees no difference"] = len(votes) - len(differs)
    if not len(differs):
        raise DataError(f"The encoder {encoder} sees no difference in any of {len(votes)} pairs; take another.")
    votes, comparisons = votes.of(differs), comparisons.take(differs)
    first, second = ([turn.answer() for turn in turns(comparisons, side)] for side in ("chosen", "rejected"))
    n_words = {text: len(words_of(text)) for text in {*first, *second}}
    parts = apart(codes_of(comparisons, "prompt")[0], votes.chosen, votes.rejected, seed=seed)
    unordered = joint_codes(np.minimum(votes.chosen, votes.rejected), np.maximum(votes.chosen, votes.rejected))
    once, pair = first_and_place(unordered)
    clusters, clustered_by = next(
        (labels, name)
        for labels, name in (
            (parts.groups, "connected group of prompts and responses"),
            (votes.user, "person"),
            (pair, "pair"),
        )
        if len(np.unique(labels)) >= _FEWEST_CLUSTERS or name == "pair"
    )
    return Judged(
        comparisons,
        list(zip(first, second, strict=True)),
        votes.difference,
        np.array([n_words[one] - n_words[other] for one, other in zip(first, second, strict=True)], dtype=np.float64),
        votes.strength.astype(np.float64),
        parts,
        clusters,
        clustered_by,
        once[parts.learn[once]],
    )


def _without_prompts(comparisons: Comparisons) -> Comparisons:
    """The same with nothing said before the responses, as the authors' encoder read them."""
    table = comparisons.table
    nothing = pc.if_else(pc.equal(pc.fill_null(table["form"], "text"), "messages"), "[]", "")
    table = table.set_column(table.column_names.index("prompt"), "prompt", nothing)
    context = table.column_names.index("context")
    return Comparisons(table.set_column(context, "context", pa.nulls(len(table), pa.string())))


def _describer(chat: str, n_features: int, n_candidates: int, n_measured: int) -> Describer:
    if not chat:
        return ByPhrases()
    describer = ByChat(Cached(chat_model(chat), RowCache()))
    n_calls = describer.n_calls(n_features, n_candidates=n_candidates, n_measured=n_measured)
    print(f"{chat} will be asked about {n_calls} times at most for new pairs", file=sys.stderr)
    return describer


def _alike(decoder: NDArray[np.float32]) -> dict[int, int]:
    """Features that have an earlier one in about the same direction, and which; numbers from 1."""
    cosines = np.abs(np.tril(decoder @ decoder.T, -1))
    return {
        later + 1: int(cosines[later].argmax()) + 1 for later in range(1, len(cosines)) if cosines[later].max() > _ALIKE
    }


def _personal(activations: Floats, judged: Judged, seed: int) -> Personal | str:
    """Where people differ, or why that cannot be said."""
    users = judged.comparisons.table["user"].to_pylist()
    try:
        return personal(activations, judged.length, judged.strength, users, parts=judged.parts, seed=seed)
    except DataError as error:
        return str(error)


def _change(activations: Floats, judged: Judged, against: tuple[int, ...], out: Path, seed: int) -> Changed | None:
    """Turn round the labels that reward some features, and measure what that teaches."""
    if not against:
        return None
    unknown = [number for number in against if not 1 <= abs(number) <= activations.shape[1]]
    if unknown:
        raise SettingsError(f"against: there is no feature {unknown[0]}; there are 1 to {activations.shape[1]}.")
    taught = {number: np.sign(number) * activations[:, abs(number) - 1] for number in against}
    rows = np.unique(np.concatenate([rewarded(column, judged.strength) for column in taught.values()]))
    strength = judged.strength.copy()
    strength[rows] = 1 - strength[rows]
    table = judged.comparisons.table
    place = table.column_names.index("strength")
    with writing(out / RELABELLED) as write:
        write(Comparisons(table.set_column(place, "strength", pa.array(strength, pa.float32()))))
    effects = {
        number: relearnt(
            judged.difference,
            judged.length,
            judged.strength,
            strength,
            column,
            parts=judged.parts,
            clusters=judged.clusters,
            seed=seed,
        )
        for number, column in taught.items()
    }
    return Changed(against, len(rows), effects, out / RELABELLED)
