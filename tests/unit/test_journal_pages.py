import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.llm.journal.pages import has_broken_log, locate_log, read_log_rows, read_rows

VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    # Rows that do not fit into a page.
    | st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=9), st.integers(400, 3000))
)
ROWS = st.dictionaries(st.integers(1, 2**63 - 1), st.tuples(VALUES, VALUES), max_size=12)


def read_all(path: Path, columns: int = 3) -> dict[int, list[object]]:
    return {number: values[1:] for number, values in reversed(list(read_rows(path, frozenset({columns}))))}


@settings(max_examples=25)
@given(rows=ROWS, size=st.sampled_from([512, 4096, 65536]), log=st.booleans())
def test_rows_are_read_as_sqlite_wrote_them(
    rows: dict[int, tuple[object, object]], size: int, log: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("pages") / "file"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={size}")
        connection.execute(f"PRAGMA journal_mode={'WAL' if log else 'DELETE'}")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, b BLOB, c BLOB)")
        for number, values in rows.items():
            connection.execute("INSERT INTO a VALUES (?, ?, ?)", (number, *values))
        # Whole floats are kept as integers only in columns of type REAL, so these come back with their types.
        assert {number: repr(values) for number, values in read_all(path).items()} == {
            number: repr(list(values)) for number, values in rows.items()
        }


@settings(max_examples=8)
@given(rows=st.dictionaries(st.text("abc", min_size=1), st.binary(max_size=3000), min_size=1, max_size=40))
def test_rows_of_a_table_without_numbers_are_read_as_well(
    rows: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("pages") / "file"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE a (key TEXT PRIMARY KEY, b BLOB, c BLOB) WITHOUT ROWID")
        connection.executemany("INSERT INTO a VALUES (?, ?, NULL)", rows.items())
    assert {values[0]: values[1] for _, values in read_rows(path, frozenset({3}))} == rows


def test_only_rows_of_as_many_columns_are_read(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "file", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE a (b, c)")
        connection.execute("CREATE TABLE d (e)")
        connection.execute("INSERT INTO a VALUES (1, 2)")
        connection.execute("INSERT INTO d VALUES (3)")
    assert list(read_rows(tmp_path / "file", frozenset({2}))) == [(1, [1, 2])]
    assert list(read_rows(tmp_path / "file", frozenset({1, 2}))) == [(1, [1, 2]), (1, [3])]
    assert list(read_rows(tmp_path / "missing", frozenset({1, 2}))) == []


@given(
    noise=st.binary(min_size=1), copies=st.integers(1, 9000), start=st.sampled_from([b"", b"\x0d", b"\x0a", b"\x02"])
)
def test_noise_gives_no_error(
    noise: bytes, copies: int, start: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("pages") / "file"
    content = (start + noise) * copies
    path.write_bytes(content[: 4096 * 3].ljust(4096, b"\x00") + content)
    locate_log(path).write_bytes(content)
    rows = [*read_rows(path, frozenset({1, 2, 3})), *read_log_rows(path, frozenset({1, 2, 3}))]
    assert all(len(values) in (1, 2, 3) for _, values in rows)


def test_a_log_is_read_up_to_its_last_transaction(tmp_path: Path) -> None:
    path, copy = tmp_path / "file", tmp_path / "copy"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE a (b)")
        for value in range(3):
            connection.execute("INSERT INTO a VALUES (?)", [value])
        shutil.copyfile(locate_log(path), locate_log(copy))
    log = bytearray(locate_log(copy).read_bytes())
    assert not has_broken_log(copy)
    assert {values[0] for _, values in read_log_rows(copy, frozenset({1}))} == {0, 1, 2}
    log[-4096 - 20 : -4096 - 16] = bytes(4)  # the last frame no longer ends a transaction
    locate_log(copy).write_bytes(log)
    assert {values[0] for _, values in read_log_rows(copy, frozenset({1}))} == {0, 1}
    log[:4] = bytes(4)
    locate_log(copy).write_bytes(log)
    assert has_broken_log(copy)
    assert {values[0] for _, values in read_log_rows(copy, frozenset({1}))} == {0, 1, 2}
    locate_log(copy).write_bytes(bytes(32))
    assert not has_broken_log(copy)
