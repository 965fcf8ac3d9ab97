#!/usr/bin/env python3
"""Make days of taxi trips that look like Chicago's: the same arguments always give the same bytes.

    generate.py data --day 2024-03-01 --days 3            three good days
    generate.py data --day 2024-03-04 --half              a copy in progress; call again without --half to end it
    generate.py data --day 2024-03-01 --version 2         the first day again, with corrected fares
    generate.py data --day 2024-03-05 --bad-day outliers  a day that the validator must refuse

A day is a span, `OUT/2024-03-01/v1/trips.csv`. The file appears whole, by a rename, and the marker `_SUCCESS`
is written last, so whoever waits for the marker never reads half a day.
"""

import argparse
import sys
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MARKER = "_SUCCESS"
FILE = "trips.csv"
BAD_DAYS = ("empty", "columns", "garbage", "outliers")

# Column, in the order of the city's export, and how its cells are printed.
COLUMNS = {
    "pickup_community_area": "d",
    "fare": ".2f",
    "trip_start_month": "d",
    "trip_start_hour": "d",
    "trip_start_day": "d",
    "trip_start_timestamp": "d",
    "pickup_latitude": ".9f",
    "pickup_longitude": ".9f",
    "dropoff_latitude": ".9f",
    "dropoff_longitude": ".9f",
    "trip_miles": ".1f",
    "pickup_census_tract": "d",
    "dropoff_census_tract": "d",
    "payment_type": "s",
    "company": "s",
    "trip_seconds": "d",
    "dropoff_community_area": "d",
    "tips": ".2f",
}
DROPOFF = ("dropoff_latitude", "dropoff_longitude", "dropoff_census_tract", "dropoff_community_area")
CLOCK = ("trip_start_month", "trip_start_hour", "trip_start_day", "trip_start_timestamp")

# Community area: latitude, longitude, pickups. Areas 76 and 56 are the airports, O'Hare and Midway.
AREAS = np.array(
    [
        (8, 41.8961, -87.6284, 490), (32, 41.8809, -87.6271, 330), (28, 41.8801, -87.6491, 128),
        (6, 41.9436, -87.6538, 118), (76, 41.9794, -87.9059, 90), (7, 41.9222, -87.6458, 89),
        (24, 41.9013, -87.6715, 60), (33, 41.8570, -87.6193, 31), (3, 41.9649, -87.6557, 27),
        (56, 41.7882, -87.7573, 26), (77, 41.9862, -87.6638, 18), (22, 41.9222, -87.6953, 18),
        (5, 41.9479, -87.6829, 11), (1, 42.0093, -87.6700, 7), (41, 41.7934, -87.5908, 7),
        (16, 41.9538, -87.7241, 6), (21, 41.9393, -87.7116, 5), (14, 41.9681, -87.7217, 5),
    ]
)  # fmt: skip
# Each area has four tracts, a few hundred metres from its centre; the places are the same on every day.
TRACTS = np.random.default_rng(1).normal(0, 0.006, (len(AREAS), 4, 2))

HOURS = np.array([60, 54, 42, 29, 20, 14, 19, 30, 53, 66, 69, 62, 75, 70, 74, 72, 76, 83, 94, 101, 97, 84, 84, 73])

# Company: share of the trips, and how its card terminal leads to a tip (some suggest 25 %, some nothing).
COMPANIES = {
    "Taxi Affiliation Services": (0.42, 0.9),
    "Dispatch Taxi Affiliation": (0.19, -1.2),
    "Blue Ribbon Taxi Association Inc.": (0.13, 0.7),
    "Choice Taxi Association": (0.10, -0.6),
    "Northwest Management LLC": (0.075, 1.3),
    "KOAM Taxi Association": (0.05, 0.2),
    "Top Cab Affiliation": (0.032, -0.9),
    "3201 - C&D Cab Co Inc": (0.001, 0.0),
    "5006 - 39261 Salifu Bawa": (0.001, 0.0),
    "6742 - 83735 Tasha ride inc": (0.001, 0.0),
}
RARE_PAYMENTS = {"No Charge": 0.015, "Unknown": 0.009, "Dispute": 0.0001, "Prcard": 0.0001}


def write_day(  # noqa: PLR0913 - one keyword for each flag of the command line
    out: Path,
    day: date,
    *,
    trips: int = 3000,
    seed: int = 7,
    version: int = 1,
    drift: float = 0,
    missing: float = 0,
    bad: str | None = None,
    marker: bool = True,
    half: bool = False,
) -> Path:
    """Write one day below `out` and return its file; the marker, when asked for, comes last.

    `half` leaves the first half of the bytes under the final name and no marker, as a slow copy would.
    """
    rng = np.random.default_rng([seed, day.toordinal()])
    table = make_trips(day, trips, rng, drift)
    if version > 1:
        _correct_fares(table, np.random.default_rng([seed, day.toordinal(), version]))
    if bad == "outliers":
        _add_outliers(table, rng)
    content = _damage(_to_csv(table, _gaps(table, missing, rng)), bad, rng)

    folder = out / f"{day:%Y-%m-%d}" / f"v{version}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    path = folder / FILE
    if half:
        path.write_bytes(content[: len(content) // 2])
        return path
    hidden = folder / f".{FILE}.tmp"
    hidden.write_bytes(content)
    hidden.replace(path)
    if marker:
        (folder / MARKER).touch()
    return path


def make_trips(day: date, trips: int, rng: np.random.Generator, drift: float = 0) -> dict[str, Array]:
    """Return the columns of a day without gaps.

    With growing `drift` (0 to 1) people pay by card rather than in cash, rides cost more, and tips get smaller.
    """
    table = _places(trips, rng) | _times(day, trips, rng)
    night = (table["trip_start_hour"] < 5) | (table["trip_start_hour"] > 19)

    between = np.abs(table["dropoff_latitude"] - table["pickup_latitude"]) * 69
    between += np.abs(table["dropoff_longitude"] - table["pickup_longitude"]) * 51.5
    miles = (0.4 + between) * rng.lognormal(0, 0.25, trips)
    minutes = 3 + miles * np.where(miles > 8, 2.2, 3.6) * np.where(night, 0.8, 1.1) * rng.lognormal(0, 0.2, trips)
    fare = np.round((3.25 + 1.8 * miles + 0.2 * minutes) * (1 + 0.4 * drift) * 4) / 4
    # Every fifth meter forgets the distance; the fare is right all the same.
    table["trip_miles"] = np.where(rng.random(trips) < 0.2, 0, np.round(miles, 1))
    table["trip_seconds"] = (np.round(minutes) * 60).astype(int)
    table["fare"] = fare

    shares = np.array([share for share, _ in COMPANIES.values()])
    company = rng.choice(len(shares), trips, p=shares / shares.sum())
    table["company"] = np.array(list(COMPANIES))[company]
    card = rng.random(trips) < _chance(-0.55 + 0.45 * np.log(fare / 8) + 1.8 * drift)
    payment = np.where(card, "Credit Card", "Cash").astype(object)
    table["payment_type"] = np.where(
        rng.random(trips) < sum(RARE_PAYMENTS.values()), _rare_payments(trips, rng), payment
    )

    habit = np.array([tip for _, tip in COMPANIES.values()])[company]
    mood = 0.7 + habit + 0.6 * night + np.select([fare < 10, fare < 20], [0.9, -1.3], 0.1) - 1.5 * drift
    generous = rng.random(trips) < _chance(mood)
    rate = np.where(generous, 0.21 + rng.gamma(1.5, 0.05, trips), 0.2 * rng.beta(3, 1.2, trips))
    table["tips"] = np.where(table["payment_type"] == "Credit Card", np.round(fare * rate, 2), 0)
    return table


def _places(trips: int, rng: np.random.Generator) -> dict[str, Array]:
    """Return where rides begin and end; almost half of them stay in their community area."""
    weights = AREAS[:, 3] / AREAS[:, 3].sum()
    start, stop = rng.choice(len(AREAS), (2, trips), p=weights)
    stop = np.where(rng.random(trips) < 0.45, start, stop)
    table = {}
    for end, area in (("pickup", start), ("dropoff", stop)):
        tract = rng.integers(0, 4, trips)
        table[f"{end}_community_area"] = AREAS[area, 0].astype(int)
        table[f"{end}_latitude"] = AREAS[area, 1] + TRACTS[area, tract, 0]
        table[f"{end}_longitude"] = AREAS[area, 2] + TRACTS[area, tract, 1]
        table[f"{end}_census_tract"] = 17_031_000_000 + 10_000 * AREAS[area, 0].astype(int) + 100 * (tract + 1)
    return table


def _times(day: date, trips: int, rng: np.random.Generator) -> dict[str, Array]:
    """Return the clock columns: quarter hours in the city's time, days counted from Sunday = 1."""
    weekend = day.isoweekday() > 5
    weights = HOURS * np.where(np.arange(24) < 5, 1.6 if weekend else 0.8, 1)
    hour = rng.choice(24, trips, p=weights / weights.sum())
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())
    return {
        "trip_start_month": np.full(trips, day.month),
        "trip_start_hour": hour,
        "trip_start_day": np.full(trips, day.isoweekday() % 7 + 1),
        "trip_start_timestamp": midnight + 3600 * hour + 900 * rng.integers(0, 4, trips),
    }


def _rare_payments(trips: int, rng: np.random.Generator) -> Array:
    shares = np.array(list(RARE_PAYMENTS.values()))
    return rng.choice(np.array(list(RARE_PAYMENTS), dtype=object), trips, p=shares / shares.sum())


def _chance(score: Array) -> Array:
    chance: Array = 1 / (1 + np.exp(-score))
    return chance


def _correct_fares(table: dict[str, Array], rng: np.random.Generator) -> None:
    """Add a forgotten surcharge to every twentieth fare, as a later version of a day does."""
    wrong = rng.random(len(table["fare"])) < 0.05
    table["fare"] = np.where(wrong, table["fare"] + rng.choice([0.25, 0.5, 1.0], len(wrong)), table["fare"])


def _add_outliers(table: dict[str, Array], rng: np.random.Generator) -> None:
    """Spoil a tenth of the trips: every cell can still be read, and none can be true."""
    spoiled = rng.random(len(table["fare"])) < 0.1
    table["fare"] = np.where(spoiled, table["fare"] * 1000, table["fare"])
    table["trip_miles"] = np.where(spoiled, -1.0, table["trip_miles"])
    table["trip_start_hour"] = np.where(spoiled, 99, table["trip_start_hour"])
    table["payment_type"] = np.where(spoiled, "Barter", table["payment_type"])


def _gaps(table: Mapping[str, Array], missing: float, rng: np.random.Generator) -> dict[str, Array]:
    """Return which cells are blank: the city's usual gaps, and `missing` more of all that is not the clock."""
    trips = len(table["fare"])
    usual = {"company": 0.33, "pickup_census_tract": 0.99, "dropoff_census_tract": 0.25, "trip_seconds": 0.0005}
    gaps = {name: rng.random(trips) < usual.get(name, 0) for name in COLUMNS}
    outside = rng.random(trips) < 0.03  # left the city: nothing is known about where the ride ended
    for name in DROPOFF:
        gaps[name] |= outside
    for name in [name for name in COLUMNS if name not in CLOCK]:
        gaps[name] |= rng.random(trips) < missing
    return gaps


def _to_csv(table: Mapping[str, Array], gaps: Mapping[str, Array]) -> bytes:
    cells = []
    for name, form in COLUMNS.items():
        pairs = zip(table[name].tolist(), gaps[name].tolist(), strict=True)
        cells.append(["" if gap else format(value, form) for value, gap in pairs])
    lines = [",".join(COLUMNS), *map(",".join, zip(*cells, strict=True))]
    return ("\n".join(lines) + "\n").encode()


def _damage(content: bytes, bad: str | None, rng: np.random.Generator) -> bytes:
    match bad:
        case "empty":
            return content[: content.index(b"\n") + 1]
        case "columns":
            return content.replace(b"fare", b"fare_usd", 1).replace(b"payment_type", b"payment", 1)
        case "garbage":
            return rng.bytes(len(content) // 4)
        case _:
            return content


def main(arguments: list[str] | None = None) -> int:
    """Write the days that the command line asks for and name each."""
    parser = argparse.ArgumentParser(description="Write days of taxi trips as spans of CSV.")
    parser.add_argument("out", type=Path, help="folder for the days")
    parser.add_argument("--day", type=date.fromisoformat, required=True, help="first day, YYYY-MM-DD")
    parser.add_argument("--days", type=int, default=1, help="how many days in a row")
    parser.add_argument("--trips", type=int, default=3000, help="trips a day")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--version", type=int, default=1, help="2 and more: the same trips, some fares corrected")
    parser.add_argument("--drift", type=float, default=0, help="0 to 1: more cards, dearer rides, smaller tips")
    parser.add_argument("--missing", type=float, default=0, help="share of the cells lost besides the usual gaps")
    parser.add_argument("--bad-day", choices=BAD_DAYS, help="a day that must not reach the trainer")
    parser.add_argument("--no-marker", action="store_true", help=f"write no {MARKER}")
    parser.add_argument("--half", action="store_true", help="stop half-way: a copy in progress")
    options = parser.parse_args(arguments)
    for offset in range(options.days):
        path = write_day(
            options.out,
            options.day + timedelta(days=offset),
            trips=options.trips,
            seed=options.seed,
            version=options.version,
            drift=options.drift,
            missing=options.missing,
            bad=options.bad_day,
            marker=not options.no_marker,
            half=options.half,
        )
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
