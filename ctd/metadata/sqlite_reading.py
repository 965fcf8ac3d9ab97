"""What a start reads of ML Metadata's SQLite file, read past ML Metadata: ten times as fast, and equal by test.

Nothing is ever written here. Only tables of the one schema that is known are read; about any other, and whenever
SQLite complains, this module has nothing to say (`Unreadable`), and ML Metadata is asked instead. Decision 011.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.artifacts import Artifact
from ctd.core.executions import Execution
from ctd.metadata.convert import STATES_READ
from ctd.metadata.recorded import artifact_of, exactly, execution_of, is_execution

T = TypeVar("T")

_SCHEMA = 10  # of ml-metadata 1.17, and of every release since 1.15
_PAGE = 5000  # executions: rows are many times as large as what is made of them
_INPUT, _OUTPUT, _DELETED = pb.Event.INPUT, pb.Event.OUTPUT, pb.Artifact.DELETED

_OWN_TYPES = "CREATE TEMP TABLE OwnType (id INTEGER PRIMARY KEY, name TEXT)"
_OWN = """
    CREATE TEMP VIEW Own AS SELECT Execution.id, OwnType.name AS type, last_known_state AS state
    FROM Execution CROSS JOIN OwnType ON OwnType.id = type_id
"""
_EXECUTIONS = "SELECT id, type, state FROM Own WHERE id BETWEEN ? AND ? ORDER BY id"
_SAID_OF_EXECUTIONS = """
    SELECT execution_id, name, coalesce(string_value, int_value, double_value) FROM ExecutionProperty
    WHERE execution_id IN (SELECT id FROM Own WHERE id BETWEEN ? AND ?) AND is_custom_property ORDER BY execution_id
"""
_STEPS = """
    SELECT execution_id, type, artifact_id, step_key, step_index FROM Event JOIN EventPath ON event_id = Event.id
    WHERE execution_id IN (SELECT id FROM Own WHERE id BETWEEN ? AND ?) ORDER BY Event.id, EventPath.rowid
"""
_MADE = """
    SELECT Artifact.id, Type.name, coalesce(uri, '') FROM Artifact JOIN Type ON Type.id = type_id
    WHERE Artifact.id IN (
        SELECT artifact_id FROM Event WHERE execution_id IN (SELECT id FROM Own WHERE id BETWEEN ? AND ?) AND type = ?
    )
"""
_SAID_OF_MADE = """
    SELECT artifact_id, name, coalesce(string_value, int_value, double_value), is_custom_property FROM ArtifactProperty
    WHERE artifact_id IN (
        SELECT artifact_id FROM Event WHERE execution_id IN (SELECT id FROM Own WHERE id BETWEEN ? AND ?) AND type = ?
    ) AND (is_custom_property AND name <> 'tfx_version' OR name = 'split_names')
"""


class Unreadable(Exception):
    """The file cannot be read this way."""


def read(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """What `work` finds in the file. ML Metadata must not have it open in this process. Raises Unreadable."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as database:
            database.execute("BEGIN")  # one state of the file, whoever writes to it meanwhile
            if database.execute("SELECT schema_version FROM MLMDEnv").fetchall() != [(_SCHEMA,)]:
                raise Unreadable(f"{path} has another schema than {_SCHEMA}")
            return work(database)
    except sqlite3.Error as error:
        raise Unreadable(f"{path}: {error}") from error


def executions(database: sqlite3.Connection) -> list[Execution]:
    """Every execution of ctd's with its outputs, oldest first."""
    types = database.execute("SELECT id, name FROM Type").fetchall()
    database.execute(_OWN_TYPES)
    database.executemany("INSERT INTO OwnType VALUES (?, ?)", [t for t in types if is_execution(t[1])])
    database.execute(_OWN)
    (last,) = database.execute("SELECT coalesce(max(id), 0) FROM Execution").fetchone()
    pages = ((first, first + _PAGE - 1) for first in range(1, last + 1, _PAGE))
    return [execution for between in pages for execution in _page(database, between)]


def _page(database: sqlite3.Connection, between: tuple[int, int]) -> Iterator[Execution]:
    said = groupby(database.execute(_SAID_OF_EXECUTIONS, between), itemgetter(0))
    properties = {number: {name: value for _, name, value in rows} for number, rows in said}
    made = _artifacts(database, between)
    inputs: defaultdict[int, list[tuple[str, int, int]]] = defaultdict(list)
    outputs: defaultdict[int, list[tuple[str, int, Artifact]]] = defaultdict(list)
    for execution, type_, artifact, key, index in _places(database, between):
        if type_ == _INPUT:
            inputs[execution].append((key, index, artifact))
        elif type_ == _OUTPUT:
            outputs[execution].append((key, index, made[artifact]))
    for number, type_, state in database.execute(_EXECUTIONS, between):
        values = exactly(properties[number])
        yield execution_of(number, type_, STATES_READ[state], values, inputs[number], outputs[number])


def deleted_artifacts(database: sqlite3.Connection) -> list[int]:
    """Ids of the artifacts marked DELETED."""
    found = database.execute("SELECT id FROM Artifact WHERE state = ? ORDER BY id", (_DELETED,))
    return [number for (number,) in found]


def _artifacts(database: sqlite3.Connection, between: tuple[int, int]) -> dict[int, Artifact]:
    """What the executions between two ids made."""
    custom: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    splits: dict[int, str] = {}
    for number, name, value, is_custom in database.execute(_SAID_OF_MADE, (*between, _OUTPUT)):
        if is_custom:
            custom[number][name] = value if isinstance(value, (str, int)) else _as_mlmd_says(value)
        else:
            splits[number] = value
    stored = database.execute(_MADE, (*between, _OUTPUT))
    return {
        number: artifact_of(number, type_, uri, exactly(custom[number]), splits.get(number))
        for number, type_, uri in stored
    }


def _as_mlmd_says(value: float | None) -> float:
    """MLMD reads numbers as text of fifteen digits. Kinds of values that ctd never writes are left to it."""
    if value is None:
        raise Unreadable("a property is neither text nor a number")
    return float(f"{value:.15g}")


def _places(database: sqlite3.Connection, between: tuple[int, int]) -> Iterator[tuple[int, int, int, str, int]]:
    """Execution, kind of event, artifact, key and index. A path is steps of which every second one is an index."""
    steps = database.execute(_STEPS, between)
    for (execution, type_, artifact, key, _), (*_, index) in zip(steps, steps, strict=True):
        yield execution, type_, artifact, key, index
