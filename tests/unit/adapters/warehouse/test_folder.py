"""Generations as files: sealed, linked, pruned, and always open to readers."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from libs.adapters.warehouse import Database, Warehouse, sha256_of
from libs.errors import Permanent, Transient
from libs.testing.waiting import until


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path, "orders")


def a_generation(warehouse: Warehouse, number: int, *, clone_of: str | None = None) -> str:
    file = Warehouse.file_name(number)
    warehouse.prepare(file, clone_of=clone_of)
    candidate = warehouse.open_candidate(file)
    candidate.run(
        "CREATE OR REPLACE TABLE content AS SELECT ? AS number, range AS filler FROM range(1000)", [number]
    )
    warehouse.seal(candidate)
    return file


def number_in(database: Database) -> int:
    return int(database.value("SELECT min(number) FROM content"))


def test_a_sealed_generation_is_one_read_only_file_with_its_hash(warehouse: Warehouse) -> None:
    file = Warehouse.file_name(42, 2)
    warehouse.prepare(file)
    candidate = warehouse.open_candidate(file)
    candidate.run("CREATE TABLE t AS SELECT 1 AS one")
    sealed = warehouse.seal(candidate)
    assert file == "gen-000042-2.duckdb"
    assert [entry.name for entry in warehouse.folder.iterdir()] == [file]
    path = warehouse.path_of(file)
    assert path.stat().st_mode & 0o777 == 0o444
    assert (sealed.sha256, sealed.size) == (sha256_of(path), path.stat().st_size)


def test_a_generation_can_be_read_by_every_duckdb_since_1_0(warehouse: Warehouse) -> None:
    header = warehouse.path_of(a_generation(warehouse, 1)).read_bytes()[:20]
    assert (header[8:12], int.from_bytes(header[12:20], "little")) == (b"DUCK", 64)


def test_a_file_with_a_write_ahead_log_beside_it_is_no_generation(warehouse: Warehouse) -> None:
    file = Warehouse.file_name(1)
    path = warehouse.prepare(file)
    candidate = warehouse.open_candidate(file)
    candidate.run("CREATE TABLE t AS SELECT 1 AS one")
    stray = Path(f"{path}.wal")

    class Hurried(Database):
        def close(self) -> None:
            super().close()
            stray.write_bytes(b"left behind")

    candidate.__class__ = Hurried
    with pytest.raises(Permanent, match="write-ahead log"):
        warehouse.seal(candidate)


def test_a_clone_leaves_its_source_alone(warehouse: Warehouse) -> None:
    first = a_generation(warehouse, 1)
    before = sha256_of(warehouse.path_of(first))
    second = a_generation(warehouse, 2, clone_of=first)
    assert sha256_of(warehouse.path_of(first)) == before
    with warehouse.connect_read_only(warehouse.path_of(second)) as reader:
        assert number_in(reader) == 2


def test_what_a_killed_build_left_is_swept_away_before_the_next(warehouse: Warehouse) -> None:
    file = Warehouse.file_name(1)
    path = warehouse.prepare(file)
    path.write_bytes(b"half a file")
    Path(f"{path}.wal").write_bytes(b"half a log")
    Path(f"{path}.tmp").mkdir()
    a_generation(warehouse, 1)
    assert [entry.name for entry in warehouse.folder.iterdir()] == [file]


def test_nothing_is_current_before_the_first_generation(warehouse: Warehouse) -> None:
    assert warehouse.current() is None
    with pytest.raises(Permanent, match="nothing is published yet"):
        warehouse.connect_read_only()


def test_the_link_leads_to_a_file_beside_it(warehouse: Warehouse) -> None:
    file = a_generation(warehouse, 1)
    assert warehouse.point_current_at(file)
    assert warehouse.current_link.readlink() == Path(file)
    assert warehouse.current() == warehouse.path_of(file).resolve()
    assert not warehouse.point_current_at(file)
    assert sorted(entry.name for entry in warehouse.folder.iterdir()) == ["current.duckdb", file]


def test_the_link_never_leads_to_nothing(warehouse: Warehouse) -> None:
    file = a_generation(warehouse, 1)
    warehouse.point_current_at(file)
    with pytest.raises(Permanent, match="missing"):
        warehouse.point_current_at(Warehouse.file_name(2))
    assert warehouse.current() == warehouse.path_of(file).resolve()


def test_the_link_is_there_at_every_moment(warehouse: Warehouse) -> None:
    files = [a_generation(warehouse, number) for number in (1, 2)]
    warehouse.point_current_at(files[0])
    done = threading.Event()
    gone: list[int] = []

    def watch() -> None:
        looks = 0
        while not done.is_set():
            looks += 1
            if not warehouse.current_link.is_symlink():
                gone.append(looks)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for n in range(400):
        warehouse.point_current_at(files[n % 2])
    done.set()
    watcher.join()
    assert gone == []


def test_pruning_spares_the_named_the_current_and_what_is_none_of_its_business(warehouse: Warehouse) -> None:
    files = [a_generation(warehouse, number) for number in (1, 2, 3, 4)]
    warehouse.point_current_at(files[3])
    (warehouse.folder / "notes.txt").write_text("mine")
    Path(f"{warehouse.path_of(files[0])}.wal").write_bytes(b"")
    assert warehouse.prune([files[1]], among=[files[0], files[1], files[3]]) == [files[0]]
    assert warehouse.prune([files[1]]) == [files[2]]
    assert sorted(e.name for e in warehouse.folder.iterdir()) == [
        "current.duckdb",
        files[1],
        files[3],
        "notes.txt",
    ]


def test_a_reader_keeps_what_it_opened(warehouse: Warehouse) -> None:
    first = a_generation(warehouse, 1)
    warehouse.point_current_at(first)
    with warehouse.connect_read_only() as reader:
        second = a_generation(warehouse, 2, clone_of=first)
        warehouse.point_current_at(second)
        warehouse.prune([])
        assert number_in(reader) == 1
    with warehouse.connect_read_only() as reader:
        assert number_in(reader) == 2


def test_many_read_one_generation_at_once_in_one_process(warehouse: Warehouse) -> None:
    warehouse.point_current_at(a_generation(warehouse, 1))
    with warehouse.connect_read_only() as one, warehouse.connect_read_only() as other:
        assert number_in(one) == number_in(other) == 1


def test_a_file_that_is_no_database_is_told(warehouse: Warehouse) -> None:
    path = warehouse.prepare(Warehouse.file_name(1))
    path.write_bytes(b"x" * 10_000)
    with pytest.raises((Transient, Permanent), match="not a valid DuckDB database"):
        warehouse.connect_read_only(path)


def test_what_the_disk_refuses_may_go_well_later(warehouse: Warehouse) -> None:
    stubborn = Warehouse.file_name(1)
    warehouse.path_of(stubborn).mkdir(parents=True)  # neither unlinked nor read as a file, also by root
    with pytest.raises(Transient, match="could not remove"):
        warehouse.remove(stubborn)
    with pytest.raises(Transient, match="could not remove"):
        warehouse.prune([])
    with pytest.raises(Transient, match="could not read"):
        warehouse.sha256_of(stubborn)
    with pytest.raises(Transient, match="could not read"):
        warehouse.sha256_of("gone")


def read_until_told(root: str, folder: str) -> None:
    """Opens the current generation again and again; writes what it saw, and what went wrong."""
    warehouse = Warehouse(Path(root), "orders")
    seen: list[int] = []
    problems: list[str] = []
    while not (Path(folder) / "stop").exists():
        try:
            with warehouse.connect_read_only() as reader:
                seen.append(number_in(reader))
        except (Transient, Permanent) as error:
            problems.append(str(error))
        (Path(folder) / "started").touch()
    (Path(folder) / "results").write_text("\n".join([",".join(map(str, seen)), *problems]))


async def test_readers_in_other_processes_are_never_locked_out_while_generations_are_swapped(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    file = a_generation(warehouse, 1)
    warehouse.point_current_at(file)
    context = multiprocessing.get_context("spawn")
    reader = context.Process(target=read_until_told, args=(str(tmp_path), str(tmp_path)))
    reader.start()
    await until((tmp_path / "started").exists)
    for number in range(2, 30):
        previous, file = file, a_generation(warehouse, number, clone_of=file)
        warehouse.point_current_at(file)
        warehouse.prune([previous])
    (tmp_path / "stop").touch()
    reader.join(30)
    assert reader.exitcode == 0
    seen, *problems = (tmp_path / "results").read_text().split("\n")
    assert problems == []
    numbers = [int(number) for number in seen.split(",")]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 2
