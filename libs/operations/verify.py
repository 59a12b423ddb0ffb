"""The proof of the archive: a rebuild from it alone has the same content as what readers see, row for row.

Beside the live data, in a folder that is removed afterwards. Three layers are compared by content hash: RAW
(Postgres against the documents), STAGING and ANALYTICS (the current generation against one built from the
documents). What differs is named by its key.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, Protocol

import msgspec

from libs.adapters.objects import Objects
from libs.adapters.postgres import Postgres
from libs.adapters.warehouse import Database, Warehouse
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations.archive import document_lines
from libs.operations.comparison import ARCHIVED, LIVE, Landings, generation_differences
from libs.operations.replay import accepted_document, manifests
from libs.pipeline.archive import BatchManifest
from libs.pipeline.build import Recipe, build_generation
from libs.pipeline.hashing import analytics_hash, relation_hash, staging_hash

__all__ = ["Layer", "Verification", "verify_replay"]

_MEMORY: Final = "1GB"
_LINES: Final = 20_000


class HasHome(Protocol):
    """The settings of whoever asks: where the warehouse is."""

    @property
    def home(self) -> Path: ...


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer compared: name is raw, staging or analytics. differences names what differs, a sample."""

    name: str
    live_hash: str
    rebuilt_hash: str
    live_rows: int
    rebuilt_rows: int
    identical: bool
    differences: list[str]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What the rebuild showed. batches are those that the generation carries; problems say why it could not
    be whole, e.g. batches that aren't archived. identical: every layer, and no problem."""

    dataset: str
    generation: int
    batches: int
    rows: int
    identical: bool
    layers: list[Layer]
    problems: list[str]
    seconds: float


async def verify_replay(
    settings: HasHome,
    dataset: Dataset,
    postgres: Postgres,
    objects: Objects,
    *,
    examples: int = 20,
    on_progress: Callable[[str, int], None] = lambda _step, _rows: None,
) -> Verification:
    """Rebuild what readers see from the archive alone, and compare.

    Memory is bounded whatever the number of rows; the disk holds about two copies of RAW meanwhile.

    Args:
        examples: so many differences are named in each layer.
        on_progress: told the step (`raw`, `archive`, `rebuild`, `compare`) and the rows so far.

    Raises:
        Permanent: nothing is published, or a document is damaged.
        Transient: a server is away, or the disk is full.
    """
    began = time.monotonic()
    warehouse = Warehouse(settings.home / "warehouse", dataset.name)
    current = warehouse.current()
    if current is None:
        raise Permanent(f"nothing of {dataset.name} is published", fix="drp batches wait --all")
    generation, fingerprint, batches = await asyncio.to_thread(_carried, current)
    archived = await manifests(objects, dataset.name, set(batches).__contains__)
    problems = _unarchived(batches, archived)
    with tempfile.TemporaryDirectory(prefix="drp-verify-") as name:
        folder = Path(name)
        database = Database.candidate(folder / "landings.duckdb", memory_limit=_MEMORY)
        try:
            landings = Landings(database, dataset)
            problems += await _load(landings, postgres, objects, batches, archived, on_progress)
            layers = await asyncio.to_thread(_compare, landings, current, folder, examples, on_progress)
        finally:
            database.close()
    if fingerprint != dataset.fingerprint and not all(layer.identical for layer in layers):
        problems.append(
            f"the contract or SQL of {dataset.name} changed since generation {generation} was built: drp rebuild --full"
        )
    return Verification(
        dataset=dataset.name,
        generation=generation,
        batches=len(batches),
        rows=layers[0].live_rows,
        identical=not problems and all(layer.identical for layer in layers),
        layers=layers,
        problems=problems,
        seconds=time.monotonic() - began,
    )


def _carried(current: Path) -> tuple[int, str, list[uuid.UUID]]:
    """The generation's number, what its dataset was when it was built, and the batches with rows in it."""
    with Database.generation(current) as database:
        ((number, fingerprint),) = database.rows("SELECT generation, fingerprint FROM meta.build")
        rows = database.rows("SELECT batch_id::VARCHAR FROM meta.batches WHERE raw_rows > 0 ORDER BY 1")
    return int(number), str(fingerprint), [uuid.UUID(row[0]) for row in rows]


def _unarchived(batches: Sequence[uuid.UUID], archived: Sequence[BatchManifest]) -> list[str]:
    missing = sorted(set(batches) - {manifest.batch_id for manifest in archived})
    if not missing:
        return []
    named = ", ".join(str(batch) for batch in missing[:3])
    return [
        f"{len(missing)} batches that readers see are not archived: {named}{' …' if len(missing) > 3 else ''}"
    ]


async def _load(
    landings: Landings,
    postgres: Postgres,
    objects: Objects,
    batches: Sequence[uuid.UUID],
    archived: Sequence[BatchManifest],
    on_progress: Callable[[str, int], None],
) -> list[str]:
    """Both sides into the database; what of the documents could not be read."""
    landed = 0

    def told(rows: int) -> None:
        nonlocal landed
        landed += rows
        on_progress("raw", landed)

    await asyncio.to_thread(landings.load_live, postgres.url, batches, told)
    problems: list[str] = []
    read = 0
    for manifest in archived:
        waiting: list[bytes] = []
        async with aclosing(document_lines(objects, accepted_document(manifest))) as pieces:
            async for lines in pieces:
                waiting += lines
                if len(waiting) >= _LINES:
                    problems += await asyncio.to_thread(
                        landings.load_archived, manifest.batch_id, waiting, manifest.columns
                    )
                    read += len(waiting)
                    waiting = []
        problems += await asyncio.to_thread(
            landings.load_archived, manifest.batch_id, waiting, manifest.columns
        )
        read += len(waiting)
        on_progress("archive", read)
    return problems


def _compare(
    landings: Landings,
    current: Path,
    folder: Path,
    examples: int,
    on_progress: Callable[[str, int], None],
) -> list[Layer]:
    dataset, database = landings.dataset, landings.database
    hashes = [relation_hash(database, table, landings.compared) for table in (LIVE, ARCHIVED)]
    counts = [landings.count(table) for table in (LIVE, ARCHIVED)]
    same = hashes[0] == hashes[1] and counts[0] == counts[1]
    raw = Layer(
        name="raw",
        live_hash=hashes[0],
        rebuilt_hash=hashes[1],
        live_rows=counts[0],
        rebuilt_rows=counts[1],
        identical=same,
        differences=[] if same else landings.differences(examples),
    )
    on_progress("rebuild", counts[1])
    rebuilt = _rebuild(landings, folder)
    on_progress("compare", counts[1])
    return [raw, *(_layer(dataset, current, rebuilt, layer, examples) for layer in ("staging", "analytics"))]


def _rebuild(landings: Landings, folder: Path) -> Path:
    dataset = landings.dataset
    warehouse = Warehouse(folder, dataset.name)
    file = warehouse.file_name(1)
    recipe = Recipe(dataset=dataset, generation=1, parent=None, kind="full", batches=None)
    build_generation(warehouse, recipe, landings.archived_rows(), file=file, memory_limit=_MEMORY)
    return warehouse.path_of(file)


def _layer(dataset: Dataset, current: Path, rebuilt: Path, name: str, examples: int) -> Layer:
    content = staging_hash if name == "staging" else analytics_hash
    tables = (
        [dataset.staging_table, dataset.rejected_table]
        if name == "staging"
        else [f'analytics."{mart}"' for mart in sorted(dataset.marts)]
    )
    hashes, counts = [], []
    for path in (current, rebuilt):
        with Database.generation(path) as database:
            hashes.append(content(database, dataset))
            counts.append(sum(int(database.rows(f"SELECT count(*) FROM {table}")[0][0]) for table in tables))
    same = hashes[0] == hashes[1] and counts[0] == counts[1]
    return Layer(
        name=name,
        live_hash=hashes[0],
        rebuilt_hash=hashes[1],
        live_rows=counts[0],
        rebuilt_rows=counts[1],
        identical=same,
        differences=[] if same else generation_differences(dataset, current, rebuilt, name, examples),
    )
