"""What the benchmark of the model server makes of its measurements."""

from __future__ import annotations

import pytest

from bench.serving import EMBEDDED, REAL, Row, Served, goals


def rows(rate: float, p99: float) -> list[Row]:
    """One line of each kind; only one is what the goals are about."""
    others = [(f"{EMBEDDED}, gRPC", 1, 1), (f"{EMBEDDED}, gRPC", 32, 8), (f"{EMBEDDED}, REST", 1, 8)]
    found = [Row(*other, rate=1.0, p50=99.0, p99=99.0, cpu=1.0) for other in [*others, (f"{REAL}, gRPC", 1, 8)]]
    return [*found, Row(f"{EMBEDDED}, gRPC", 1, 8, rate=rate, p50=1.0, p99=p99, cpu=1.0)]


@pytest.mark.parametrize(
    ("rate", "p99", "served", "verdicts"),
    [
        (2500.0, 6.99, Served(2.9, 399.0), ["met", "met", "met", "met"]),
        (2499.0, 7.0, Served(3.0, 400.0), ["MISSED", "MISSED", "MISSED", "MISSED"]),
        (9000.0, 9.0, Served(1.0, 300.0), ["met", "MISSED", "met", "met"]),
    ],
)
def test_the_embedded_server_is_held_to_its_goals(rate: float, p99: float, served: Served, verdicts: list[str]) -> None:
    assert [str(goal).split()[-1] for goal in goals(rows(rate, p99), served)] == verdicts
