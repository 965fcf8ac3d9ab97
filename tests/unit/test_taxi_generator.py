"""The days that examples and tests are made of: the same for the same arguments, and never seen half-written."""

import csv
import io
from collections import Counter
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from examples.taxi import generate
from examples.taxi.generate import COLUMNS, MARKER, write_day

FRIDAY = date(2024, 3, 1)
Rows = list[dict[str, str]]


def rows(path: Path) -> Rows:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def filled(table: Rows, column: str) -> float:
    return sum(row[column] != "" for row in table) / len(table)


def card_share(table: Rows) -> float:
    return Counter(row["payment_type"] for row in table)["Credit Card"] / len(table)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_day(tmp_path / "a", FRIDAY, drift=0.3, missing=0.1, version=2)
    again = write_day(tmp_path / "b", FRIDAY, drift=0.3, missing=0.1, version=2)
    assert first.read_bytes() == again.read_bytes()


def test_days_and_seeds_differ(tmp_path: Path) -> None:
    days = {
        write_day(tmp_path / "a", FRIDAY).read_bytes(),
        write_day(tmp_path / "a", date(2024, 3, 2)).read_bytes(),
        write_day(tmp_path / "b", FRIDAY, seed=8).read_bytes(),
    }
    assert len(days) == 3


def test_a_day_is_a_span_with_its_marker_and_nothing_else(tmp_path: Path) -> None:
    path = write_day(tmp_path, FRIDAY, trips=10)
    assert path == tmp_path / "2024-03-01" / "v1" / "trips.csv"
    assert {p.name for p in path.parent.iterdir()} == {"trips.csv", MARKER}
    assert path.parent.joinpath(MARKER).stat().st_mtime_ns >= path.stat().st_mtime_ns


def test_without_the_marker_the_day_is_not_complete(tmp_path: Path) -> None:
    path = write_day(tmp_path, FRIDAY, trips=10, marker=False)
    assert {p.name for p in path.parent.iterdir()} == {"trips.csv"}


def test_half_a_day_has_no_marker_and_a_later_call_completes_it(tmp_path: Path) -> None:
    whole = write_day(tmp_path / "whole", FRIDAY).read_bytes()
    path = write_day(tmp_path, FRIDAY, half=True)
    assert whole.startswith(path.read_bytes())
    assert len(path.read_bytes()) == len(whole) // 2
    assert not path.with_name(MARKER).exists()

    assert write_day(tmp_path, FRIDAY) == path
    assert path.read_bytes() == whole
    assert path.with_name(MARKER).exists()


def test_starting_a_complete_day_over_takes_its_marker_away(tmp_path: Path) -> None:
    path = write_day(tmp_path, FRIDAY)
    write_day(tmp_path, FRIDAY, half=True)
    assert not path.with_name(MARKER).exists()


def test_a_later_version_corrects_some_fares_and_nothing_else(tmp_path: Path) -> None:
    first, second = (rows(write_day(tmp_path, FRIDAY, version=v)) for v in (1, 2))
    corrected = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    assert 0.02 < len(corrected) / len(first) < 0.1
    for before, after in corrected:
        assert 0 < float(after["fare"]) - float(before["fare"]) <= 1
        assert {**before, "fare": ""} == {**after, "fare": ""}


@pytest.mark.parametrize("trips", [1, 60, 3000])
def test_a_good_day_has_the_columns_of_the_citys_export(tmp_path: Path, trips: int) -> None:
    table = rows(write_day(tmp_path, FRIDAY, trips=trips))
    assert len(table) == trips
    assert all(list(row) == list(COLUMNS) for row in table)


def test_the_clock_columns_agree_with_the_day(tmp_path: Path) -> None:
    for row in rows(write_day(tmp_path, FRIDAY)):
        start = datetime.fromtimestamp(int(row["trip_start_timestamp"]), timezone.utc)
        assert start.date() == FRIDAY
        assert int(row["trip_start_hour"]) == start.hour
        assert (row["trip_start_month"], row["trip_start_day"]) == ("3", "6")  # days count from Sunday = 1


def test_a_good_day_has_the_citys_usual_gaps(tmp_path: Path) -> None:
    table = rows(write_day(tmp_path, FRIDAY))
    assert filled(table, "fare") == filled(table, "tips") == filled(table, "payment_type") == 1
    assert filled(table, "company") == pytest.approx(0.67, abs=0.05)
    assert filled(table, "dropoff_latitude") == pytest.approx(0.97, abs=0.02)


def test_missing_blanks_cells_of_every_column_but_the_clock(tmp_path: Path) -> None:
    table = rows(write_day(tmp_path, FRIDAY, missing=0.5))
    for column in COLUMNS:
        if column in generate.CLOCK:
            assert filled(table, column) == 1
        else:
            assert filled(table, column) < 0.55


def test_tips_are_paid_by_card_and_seldom_after_drift(tmp_path: Path) -> None:
    usual, drifted = rows(write_day(tmp_path / "a", FRIDAY)), rows(write_day(tmp_path / "b", FRIDAY, drift=1))
    assert all(row["tips"] == "0.00" for row in usual if row["payment_type"] == "Cash")

    def generous(table: Rows) -> float:
        card = [row for row in table if row["payment_type"] == "Credit Card"]
        return sum(float(row["tips"]) > 0.2 * float(row["fare"]) for row in card) / len(card)

    assert generous(drifted) < generous(usual) - 0.2
    assert card_share(drifted) > card_share(usual) + 0.2


def test_days_resemble_each_other_without_drift(tmp_path: Path) -> None:
    shares = [card_share(rows(write_day(tmp_path, date(2024, month, 1)))) for month in range(1, 13)]
    assert max(shares) - min(shares) < 0.05


def test_an_empty_day_is_only_a_header(tmp_path: Path) -> None:
    assert write_day(tmp_path, FRIDAY, bad="empty").read_text() == ",".join(COLUMNS) + "\n"


def test_a_day_with_other_columns_has_other_names_for_some(tmp_path: Path) -> None:
    table = rows(write_day(tmp_path, FRIDAY, bad="columns", trips=10))
    assert set(COLUMNS) ^ set(table[0]) == {"fare", "fare_usd", "payment_type", "payment"}


def test_a_garbage_day_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UnicodeDecodeError):
        write_day(tmp_path, FRIDAY, bad="garbage").read_text()


def test_an_outlier_day_can_be_read_but_not_be_true(tmp_path: Path) -> None:
    table = rows(write_day(tmp_path, FRIDAY, bad="outliers"))
    spoiled = [row for row in table if row["payment_type"] == "Barter"]
    assert 0.05 < len(spoiled) / len(table) < 0.15
    assert all(float(row["fare"]) > 1000 and row["trip_start_hour"] == "99" for row in spoiled)


def test_the_command_line_writes_what_the_function_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ["--day", "2024-03-01", "--days", "2", "--trips", "20", "--seed", "3", "--version", "2", "--drift", "0.5"]
    assert generate.main([str(tmp_path / "a"), *said, "--missing", "0.2", "--no-marker"]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    options = {"trips": 20, "seed": 3, "version": 2, "drift": 0.5, "missing": 0.2}
    for path, day in zip(printed, (FRIDAY, date(2024, 3, 2)), strict=True):
        same = write_day(tmp_path / "b", day, **options)  # type: ignore[arg-type]
        assert path.read_bytes() == same.read_bytes()
        assert not path.with_name(MARKER).exists()


def test_the_command_line_refuses_an_unknown_bad_day(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        generate.main([str(tmp_path), "--day", "2024-03-01", "--bad-day", "boring"])
    assert stop.value.code == 2
