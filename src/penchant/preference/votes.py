"""Comparisons as numbers: every different response is encoded once, and pairs point to it.

Everything here is done column by column, so that ten million comparisons of a hundred thousand items stay four numbers
a comparison and one vector an item.

>>> from penchant.encoders import Attributes
>>> rows = [{"prompt": "q", "chosen": '{"x": 2}', "rejected": '{"x": 1}', "user": user} for user in ("ann", "bob")]
>>> votes = read_votes(Attributes(), Comparisons.from_rows(rows))
>>> votes.vectors.tolist(), votes.difference.tolist(), votes.people
([[2.0], [1.0]], [[1.0], [1.0]], ('ann', 'bob'))
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penchant.encoders import Encoder, encode_prompts, encode_turns, keeps_vectors
from penchant.errors import DataError
from penchant.records import Comparisons, Records
from penchant.turns import Turn, turns

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
Places = NDArray[np.int64]

_NUMBERS_AT_ONCE = 1 << 22  # 32 MiB


@dataclass(frozen=True)
class Votes:
    """Pairs of responses, and who preferred which.

    Attributes:
        vectors: of the different responses, each read after its prompt, float32[responses, dim].
        chosen: place of each pair's preferred response among the vectors, int64[pairs].
        rejected: place of the other one, int64[pairs].
        strength: how far the first is preferred, 0..1, 0.5 a tie, float32[pairs].
        margin: logits the first must be ahead by to be even, 0 where unknown, float32[pairs].
        user: place of each pair's person among the people, -1 where nobody is named, int64[pairs].
        people: names, in order.
    """

    vectors: Vectors
    chosen: Places
    rejected: Places
    strength: Vectors
    margin: Vectors
    user: Places
    people: tuple[str, ...]

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.chosen)

    @property
    def difference(self) -> Vectors:
        """Preferred minus other, float32[pairs, dim]; one row a pair, so not for millions."""
        return self.vectors[self.chosen] - self.vectors[self.rejected]

    def of(self, rows: Any) -> "Votes":
        """Some pairs, by number or as a mask, with the same vectors and people."""
        names = ("chosen", "rejected", "strength", "margin", "user")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def each(self) -> Iterator[tuple[str, "Votes"]]:
        """Every person with their pairs, in order of name; pairs of nobody named are left out."""
        for person, rows in zip(self.people, rows_by(self.user, len(self.people)), strict=True):
            yield person, self.of(rows)


def read_votes(encoder: Encoder, comparisons: Comparisons) -> Votes:
    """All comparisons as numbers.

    Raises:
        DataError: there are no comparisons, or the encoder gave something that is not finite.
    """
    require_some(comparisons)
    vectors, (chosen, rejected) = encoded_sides(encoder, comparisons, ("chosen", "rejected"))
    codes, people = codes_of(comparisons, "user")
    order = np.argsort(np.array(people, dtype=object), kind="stable") if people else np.empty(0, dtype=np.int64)
    place = np.empty(len(people) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(people)), -1
    return Votes(
        vectors=vectors,
        chosen=chosen,
        rejected=rejected,
        strength=comparisons.numpy("strength").astype(np.float32),
        margin=np.nan_to_num(comparisons.numpy("margin").astype(np.float32)),
        user=place[codes],
        people=tuple(people[index] for index in order),
    )


def require_some(comparisons: Comparisons) -> None:
    """Refuse to learn from nothing.

    Raises:
        DataError: there are no comparisons.
    """
    if not len(comparisons):
        raise DataError("There are no comparisons to learn from; import feedback first (`penchant import FILE`).")


def encoded_sides(encoder: Encoder, records: Records, columns: Sequence[str]) -> tuple[Vectors, list[Places]]:
    """Vectors of the different responses in some columns, and where each record's are among them.

    Args:
        encoder: payloads to vectors.
        records: with a `prompt`, and optionally `context` and `form`.
        columns: that hold responses.

    Returns:
        float32[different, dim], and for each column int64[records].

    Raises:
        DataError: the encoder gave something that is not finite.
    """
    around = [
        codes_of(records, name)[0] for name in ("prompt", "context", "form") if name in records.table.column_names
    ]
    answers = codes_of_all([records.table[name] for name in columns])[0]
    around = [np.tile(codes, len(columns)) for codes in around]
    first, places = first_and_place(joint_codes(*around, np.concatenate(answers)))
    n = len(records)
    asked: list[Turn] = [Turn("", "")] * len(first)
    for number, column in enumerate(columns):
        here = np.flatnonzero(first // max(n, 1) == number)
        for at, turn in zip(here.tolist(), turns(records.take(first[here] - number * n), column), strict=True):
            asked[at] = turn
    owners = _owners(records, places, len(first)) if keeps_vectors(encoder) else None
    vectors = finite_vectors(encoder, encode_turns(encoder, asked, owners))
    return vectors, np.split(places, len(columns))


def encoded(encoder: Encoder, comparisons: Comparisons) -> tuple[Array, Array]:
    """Vectors of chosen and of rejected responses, each float64[pairs, dim]; Raises as `read_votes`."""
    require_some(comparisons)
    vectors, (chosen, rejected) = encoded_sides(encoder, comparisons, ("chosen", "rejected"))
    return vectors[chosen].astype(np.float64), vectors[rejected].astype(np.float64)


def encoded_prompts(encoder: Encoder, records: Records) -> tuple[Vectors, Places]:
    """Vectors of the different prompts (with what is known besides), and where each record's is among them.

    Returns:
        float32[different, dim], with no columns if the encoder looks at responses only; and int64[records].

    Raises:
        DataError: the encoder gave something that is not finite.
    """
    names = [name for name in ("prompt", "context", "form") if name in records.table.column_names]
    first, places = first_and_place(joint_codes(*(codes_of(records, name)[0] for name in names)))
    asked = [turn._replace(response="") for turn in turns(records.take(first), "prompt")]
    owners = _owners(records, places, len(first)) if keeps_vectors(encoder) else None
    return finite_vectors(encoder, encode_prompts(encoder, asked, owners)), places


def require_width(vectors: NDArray[Any], dim: int) -> None:
    """Refuse vectors of another length than those a model was fitted on.

    Raises:
        DataError: they do not have `dim` numbers each.
    """
    if vectors.shape[1] != dim:
        raise DataError(
            f"The encoder gives {vectors.shape[1]} numbers a payload, but {dim} when the model was fitted; for "
            "payloads with changing columns name them: Attributes(columns=[...])."
        )


def finite_vectors(encoder: Encoder, vectors: Vectors) -> Vectors:
    """The vectors as they are.

    Raises:
        DataError: some number in them is not finite.
    """
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors).all(axis=1)).sum())
        raise DataError(
            f"The encoder {encoder.name} gave NaN or infinite numbers for {bad} of {len(vectors)} payloads."
        )
    return vectors


def codes_of(records: Records, column: str) -> tuple[Places, list[Any]]:
    """A number for each value of a column, -1 where there is none, and the values."""
    [codes], values = codes_of_all([records.table[column]])
    return codes, values


def codes_of_all(columns: Sequence[pa.ChunkedArray]) -> tuple[list[Places], list[Any]]:
    """The same for several columns that share their values."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    kind = columns[0].type
    found = pa.chunked_array(chunks, kind).dictionary_encode().combine_chunks()
    if isinstance(found, pa.ChunkedArray):  # nothing at all
        return [np.empty(0, np.int64) for _ in columns], []
    codes = found.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.split(codes, np.cumsum([len(column) for column in columns])[:-1]), found.dictionary.to_pylist()


def joint_codes(*columns: Places) -> Places:
    """One number for each combination of the columns' numbers (each -1 or above)."""
    joint = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        width = int(column.max(initial=-1)) + 2
        if int(joint.max(initial=0)) + 1 > np.iinfo(np.int64).max // width:
            joint = np.unique(joint, return_inverse=True)[1]
        joint = joint * width + column + 1
    return joint


def some_people(votes: Votes, n_pairs: int, *, seed: int = 0) -> Votes:
    """All votes of people drawn at random, of at most about so many pairs; everything if there are no more."""
    if len(votes) <= n_pairs:
        return votes
    person = np.where(votes.user >= 0, votes.user, len(votes.people) + np.arange(len(votes)))
    people, codes, counts = np.unique(person, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng(seed).permutation(len(people))
    enough = drawn[: max(1, int(np.searchsorted(np.cumsum(counts[drawn]), n_pairs, side="right")))]
    return votes.of(np.flatnonzero(np.isin(codes, enough)))


def compacted(votes: Votes) -> tuple[Votes, Places]:
    """The same pairs with only the responses and people that are in them, and the places of these responses before."""
    responses, sides = np.unique(np.stack([votes.chosen, votes.rejected]), return_inverse=True)
    chosen, rejected = sides.reshape(2, -1)
    people = np.unique(votes.user[votes.user >= 0])
    user = np.where(votes.user < 0, -1, np.searchsorted(people, votes.user))
    names = tuple(votes.people[person] for person in people)
    few = replace(votes, vectors=votes.vectors[responses], chosen=chosen, rejected=rejected, user=user, people=names)
    return few, responses


def first_and_place(codes: Places) -> tuple[Places, Places]:
    """Row in which each different code is first seen, in that order, and of each row the place of its code there."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[inverse]


def rows_by(codes: Places, n: int) -> list[Places]:
    """The rows that have each of the codes 0 to n - 1, in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(n + 1)))[1:-1]


def rows_of(comparisons: Comparisons) -> dict[str, Places]:
    """The rows of each person who is named, in their order."""
    codes, people = codes_of(comparisons, "user")
    return dict(zip(people, rows_by(codes, len(people)), strict=True))


def together(rows: Sequence[Places], *, numbers: int) -> Iterator[tuple[Places, Places]]:
    """People with equally many pairs, as many at once as memory likes.

    Args:
        rows: of each person.
        numbers: how many a pair is.

    Yields:
        Places of some people, and their rows, [people, pairs]; pairs may be 0.

    >>> rows = [np.array([4]), np.array([0, 1]), np.array([2])]
    >>> [(some.tolist(), own.tolist()) for some, own in together(rows, numbers=1)]
    [([0, 2], [[4], [2]]), ([1], [[0, 1]])]
    """
    counts = np.array([len(own) for own in rows], dtype=np.int64)
    for n_pairs in np.unique(counts):
        alike = np.flatnonzero(counts == n_pairs)
        for some in np.array_split(alike, -(-len(alike) * (n_pairs + 1) * max(numbers, 1) // _NUMBERS_AT_ONCE)):
            yield some, np.stack([rows[place] for place in some]).astype(np.int64)


def _owners(records: Records, places: Places, n: int) -> list[Collection[str | None]]:
    """Whose record each payload is in; a name that was taken off, to ask everybody's model, makes nobody an owner."""
    codes, people = codes_of(records, "user")
    whose: list[set[str | None]] = [set() for _ in range(n)]
    pairs = np.unique(np.stack([places, np.tile(codes, len(places) // max(len(codes), 1))]), axis=1)
    for place, code in pairs.T.tolist():
        if code >= 0:
            whose[place].add(people[code])
    return list(whose)


def of_people(comparisons: Comparisons, people: Collection[str]) -> Comparisons:
    """The rows of some people, in their order."""
    return Comparisons(
        comparisons.table.filter(pc.is_in(comparisons.table["user"], pa.array(list(people), pa.string())))
    )
