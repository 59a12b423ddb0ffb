"""The steps that a build takes, each leaving its tables to the next. `build_generation` puts them in order."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from libs.adapters.warehouse import Database
from libs.datasets import Dataset, quoted
from libs.errors import Permanent, Transient
from libs.pipeline.hashing import analytics_hash, rows_hash, staging_hash
from libs.pipeline.plan import staging_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Built", "Recipe", "Steps"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION: Final = ("event_time", "source_system", "event_id")

_META: Final = """
CREATE SCHEMA IF NOT EXISTS staging;
CREATE SCHEMA IF NOT EXISTS analytics;
CREATE SCHEMA IF NOT EXISTS meta;
CREATE TABLE IF NOT EXISTS meta.batches (batch_id UUID, raw_rows BIGINT, generation BIGINT);
CREATE TABLE IF NOT EXISTS meta.counts (name VARCHAR, value BIGINT);
CREATE TABLE IF NOT EXISTS meta.hashes (name VARCHAR, value VARCHAR);
CREATE OR REPLACE TABLE meta.build (
    generation BIGINT, parent BIGINT, kind VARCHAR, dataset VARCHAR, contract_version VARCHAR,
    fingerprint VARCHAR, staging_fingerprint VARCHAR
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to build. batches are those applied here; None means whatever the rows say (a replay)."""

    dataset: Dataset
    generation: int
    parent: int | None
    kind: str
    batches: Sequence[uuid.UUID] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A sealed generation. raw_rows = staged + rejected + superseded, over all batches in it.

    added_rows arrived in this build. watermark is the greatest event_time of its rows, None if it has none.
    bytes is the file's size.
    """

    staged: int
    rejected: int
    superseded: int
    raw_rows: int
    added_rows: int
    staging_hash: str
    analytics_hash: str
    watermark: datetime | None
    sha256: str
    bytes: int


class Steps:
    """The steps of one build; each leaves its tables to the next."""

    def __init__(self, database: Database, recipe: Recipe, stopped: Callable[[], bool]) -> None:
        self.database = database
        self.recipe = recipe
        self.dataset = recipe.dataset
        self.key = quoted(recipe.dataset.key.name)
        self.kept = recipe.dataset.staging_table
        self.rejected = recipe.dataset.rejected_table
        self.stopped = stopped
        self.hash_change = 0
        self.reshaped = False

    def run(self, sql: str) -> None:
        if self.stopped():
            raise Transient("the build was stopped")
        self.database.run(sql)

    def count(self, sql: str) -> int:
        """The number that a query, or a change of rows, gives back."""
        if self.stopped():
            raise Transient("the build was stopped")
        return int(self.database.value(sql) or 0)

    def arrive(self, landed: Iterable[pa.RecordBatch | pa.Table]) -> None:
        import pyarrow as pa

        self.run(_META)
        columns = self.dataset.landed_columns
        self.run(
            f"CREATE TEMP TABLE arrivals ({', '.join(f'{quoted(name)} {kind}' for name, kind in columns)})"
        )
        typed = ", ".join(f"CAST({quoted(name)} AS {kind})" for name, kind in columns)
        for piece in landed:
            table = pa.Table.from_batches([piece]) if isinstance(piece, pa.RecordBatch) else piece
            with self.database.exposed("piece", table):
                self.run(f"INSERT INTO arrivals SELECT {typed} FROM piece")
        self._account_for_batches()

    def _account_for_batches(self) -> None:
        again = self.database.rows(
            "SELECT DISTINCT batch_id::VARCHAR FROM arrivals SEMI JOIN meta.batches USING (batch_id)"
        )
        if again:
            raise Permanent(f"the generation already carries batch {again[0][0]}", fix="drp rebuild --full")
        self.database.run(
            "INSERT INTO meta.batches SELECT batch_id, count(*), ? FROM arrivals GROUP BY batch_id",
            [self.recipe.generation],
        )
        if self.recipe.batches is None:
            return
        applied = {row[0] for row in self.database.rows("SELECT DISTINCT batch_id FROM arrivals")}
        foreign = applied - set(self.recipe.batches)
        if foreign:
            raise Permanent(f"rows of batch {min(foreign)} arrived, which the plan leaves out")
        for batch in self.recipe.batches:
            if batch not in applied:
                self.database.run(
                    "INSERT INTO meta.batches VALUES (?, 0, ?)", [batch, self.recipe.generation]
                )

    def resolve(self) -> int:
        """Leave in `landed` the versions that win, and nowhere those they replace; how many versions lost."""
        newest = ", ".join(f"{name} DESC" for name in _VERSION)
        self.run(
            "CREATE TEMP TABLE landed AS SELECT * FROM arrivals "
            f"QUALIFY row_number() OVER (PARTITION BY {self.key} ORDER BY {newest}) = 1"
        )
        lost = self.count("SELECT (SELECT count(*) FROM arrivals) - (SELECT count(*) FROM landed)")
        for table in (self.kept, self.rejected):
            if self.database.columns(table):
                lost += self._meet(table)
        return lost

    def _meet(self, table: str) -> int:
        """Of each key that stands in the table too, take away the older version, from here or from there."""
        theirs = ", ".join(f"t.{name}" for name in _VERSION)
        ours = ", ".join(f"l.{name}" for name in _VERSION)
        self.run(
            f"CREATE OR REPLACE TEMP TABLE beaten AS SELECT l.{self.key} FROM landed l "
            f"JOIN {table} t ON t.{self.key} = l.{self.key} WHERE ({theirs}) > ({ours})"
        )
        late = self.count(f"DELETE FROM landed WHERE {self.key} IN (SELECT {self.key} FROM beaten)")
        replaced = f"{table} WHERE {self.key} IN (SELECT {self.key} FROM landed)"
        self.hash_change -= rows_hash(self.database, f"(SELECT * FROM {replaced})", part_of=table)
        return late + self.count(f"DELETE FROM {replaced}")

    def judge(self) -> None:
        """Leave in `judged` the rows as staging.sql shapes them, with the rules that each of them breaks."""
        self.run(f"CREATE TEMP VIEW shaped AS\n{_statement(self.dataset.staging_sql)}")
        shape = self.database.columns("shaped")
        lost = [name for name, kind in self.dataset.landed_columns if shape.get(name) != kind]
        if lost:
            raise Permanent(
                f"staging.sql of {self.dataset.name} changes or leaves out {', '.join(lost)}",
                fix="SELECT landed.*, …",
            )
        broken = ", ".join(
            f"CASE WHEN {rule.broken_sql} THEN {_literal(rule.name)} END" for rule in self.dataset.row_rules
        )
        self.run(
            "CREATE TEMP TABLE judged AS SELECT *, "
            f"list_filter(CAST([{broken}] AS VARCHAR[]), lambda rule: rule IS NOT NULL) AS __broken FROM shaped"
        )
        if self.count("SELECT count(*) FROM judged") != self.count("SELECT count(*) FROM landed"):
            raise Permanent(
                f"staging.sql of {self.dataset.name} does not give one row per landed event",
                fix="no filter and no join there; rows that must not be published are for a row rule",
            )

    def stage(self) -> None:
        columns = self.database.columns("judged")
        del columns["__broken"]
        self._fit(self.kept, columns)
        self._fit(self.rejected, {**columns, "rule": "VARCHAR", "rules": "VARCHAR[]"})
        self._add(self.kept, "SELECT * EXCLUDE (__broken) FROM judged WHERE len(__broken) = 0")
        self._add(
            self.rejected,
            "SELECT * EXCLUDE (__broken), __broken[1] AS rule, __broken AS rules FROM judged WHERE len(__broken) > 0",
        )

    def _add(self, table: str, rows: str) -> None:
        self.hash_change += rows_hash(self.database, f"({rows})", part_of=table)
        self.run(f"INSERT INTO {table} BY NAME {rows}")

    def _fit(self, table: str, columns: dict[str, str]) -> None:
        """Make the table, or add to a cloned one the columns that are new since."""
        existing = self.database.columns(table)
        if not existing:
            definitions = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
            self.run(f"CREATE TABLE {table} ({definitions})")
            return
        for name, kind in columns.items():
            if name not in existing:
                self.reshaped = True
                self.run(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {kind}")
            elif existing[name] != kind:
                raise Permanent(
                    f"{table}.{name} is {existing[name]}, now it would be {kind}", fix="drp rebuild --full"
                )

    def model(self) -> None:
        stale = self.database.rows("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'analytics'")
        for (name,) in stale:
            if name not in self.dataset.marts:
                self.run(f"DROP TABLE analytics.{quoted(name)}")
        for name, sql in self.dataset.marts.items():
            try:
                self.run(f"CREATE OR REPLACE TABLE analytics.{quoted(name)} AS\n{_statement(sql)}")
            except Permanent as error:
                raise Permanent(
                    f"mart {name} of {self.dataset.name} failed", why=error.why, fix=error.fix
                ) from error

    def describe(self, superseded: int) -> Built:
        """Write what the file says of itself, and say it; its bytes are not final yet."""
        before = self.count("SELECT sum(value) FROM meta.counts WHERE name = 'superseded'")
        counts = {
            "staged": self.count(f"SELECT count(*) FROM {self.kept}"),
            "rejected": self.count(f"SELECT count(*) FROM {self.rejected}"),
            "superseded": before + superseded,
            "raw_rows": self.count("SELECT sum(raw_rows) FROM meta.batches"),
        }
        self.run("DELETE FROM meta.counts")
        for name, value in counts.items():
            self.database.run("INSERT INTO meta.counts VALUES (?, ?)", [name, value])
        recipe, dataset = self.recipe, self.dataset
        self.database.run(
            "INSERT INTO meta.build VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                recipe.generation,
                recipe.parent,
                recipe.kind,
                dataset.name,
                dataset.version,
                dataset.fingerprint,
                staging_fingerprint(dataset),
            ],
        )
        return Built(
            **counts,
            added_rows=self.count("SELECT count(*) FROM arrivals"),
            staging_hash=self._staging_hash(),
            analytics_hash=analytics_hash(self.database, dataset),
            watermark=self._watermark(),
            sha256="",
            bytes=0,
        )

    def _staging_hash(self) -> str:
        """The clone's hash and what changed; counted anew if every row got a new column."""
        before = self.database.value("SELECT value FROM meta.hashes WHERE name = 'staging'")
        now = str(int(before or 0) + self.hash_change)
        if self.reshaped:
            now = staging_hash(self.database, self.dataset)
        self.run("DELETE FROM meta.hashes")
        self.database.run("INSERT INTO meta.hashes VALUES ('staging', ?)", [now])
        return now

    def _watermark(self) -> datetime | None:
        latest = self.database.value(
            f"SELECT epoch_us(max(event_time)) FROM "
            f"(SELECT event_time FROM {self.kept} UNION ALL SELECT event_time FROM {self.rejected})"
        )
        return None if latest is None else _EPOCH + timedelta(microseconds=latest)


def _statement(sql: str) -> str:
    return sql.strip().rstrip(";").rstrip()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
