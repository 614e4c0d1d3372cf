"""Generators of records of several kinds, for property tests of whatever keeps or moves them."""

from datetime import UTC

from hypothesis import strategies as st

from penchant.records import Comparisons, Rankings, Ratings, Segments

# Often what hurts: NUL, which PostgreSQL cannot hold, the backslash that stands for it, quotes, and the empty text.
CONTENT = st.text(st.sampled_from("\x00\\0'\"a") | st.characters(exclude_categories=["Cs"]), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)
TIMES = st.datetimes(timezones=st.just(UTC))
COMMON = {"user": st.none() | CONTENT, "time": st.none() | TIMES, "extra": st.none() | CONTENT}
ANY = {
    Comparisons: {"prompt": CONTENT, "chosen": CONTENT.map("+".__add__), "rejected": CONTENT.map("-".__add__)}
    | {"strength": st.floats(0, 1, width=32), "margin": st.none() | SINGLE, "context": st.none() | CONTENT},
    Rankings: {"prompt": CONTENT, "responses": st.lists(CONTENT, min_size=2, max_size=2)}
    | {"ranks": st.none() | st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=2)},
    Ratings: {"prompt": CONTENT, "response": CONTENT, "score": FINITE, "low": st.none() | FINITE},
    Segments: {"states": CONTENT, "actions": CONTENT, "rewards": st.none() | st.lists(FINITE, max_size=3)},
}
SEVERAL = st.sampled_from(list(ANY)).flatmap(
    lambda kind: st.lists(st.fixed_dictionaries(ANY[kind] | COMMON), min_size=1, max_size=6).map(kind.from_rows)
)
