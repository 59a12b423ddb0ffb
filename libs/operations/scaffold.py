"""`drp dataset init`: a sample becomes a dataset's folder that passes its check, and that takes the sample.

The folder is made and tried elsewhere, with the marts that stay in it if it is there already: its contract is read, its
SQL is run, and the sample goes through the decoder that the ingestor uses. Only then it is put in place.
"""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from libs.adapters.files import read_rows
from libs.adapters.warehouse import Database
from libs.datasets import ColumnType, ContractError, Dataset, load_dataset, quoted
from libs.datasets.columns import RAW_NAMES
from libs.errors import Permanent
from libs.operations.publishing import Envelope, layout_of
from libs.operations.sample import CHUNKS, Sample, SampledColumn, read_sample
from libs.operations.templates import DAY, Draft, Field, contract_text, mart_text, staging_text
from libs.pipeline.decode import Decoder

__all__ = ["Scaffolded", "init_dataset"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KEYS: Final = (ColumnType.STRING, ColumnType.INTEGER)
_TIMES: Final = (ColumnType.TIMESTAMP, ColumnType.DATE)
_LOOKS_LIKE_A_KEY: Final = re.compile(r"(.*[_ -])?(id|key|number|no|nr|uuid)|.*Id|.*ID", re.ASCII)
_LOOKS_LIKE_THE_TIME: Final = re.compile(r"created|placed|occurred|happened|captured|event", re.IGNORECASE)
_SOME_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Scaffolded(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and what was made of the sample.

    key and event_time are the sample's columns; event_time None: rows don't say when they happened, and publishing
    needs --time. left_out: columns that no type holds whole. refused: rows of the sample that the contract would
    refuse, by reason.
    """

    dataset: str
    folder: Path
    files: list[str]
    mart: str
    rows: int
    more: bool
    columns: dict[str, str]
    key: str
    key_repeats: int
    event_time: str | None
    left_out: list[str]
    refused: dict[str, int]


def init_dataset(
    name: str,
    sample: Path,
    into: Path,
    *,
    key: str | None = None,
    event_time: str | None = None,
    force: bool = False,
) -> Scaffolded:
    """Write into/name: contract.yaml, staging.sql and a first mart. Blocks.

    Args:
        key: the column that names a row; None takes a unique one.
        event_time: the column that says when a row's event happened; None takes a timestamp, or a date.
        force: replace files that are there.

    Raises:
        Permanent: the sample can't be read, nothing in it is a key, files are there already, or what would stay beside
            them makes the folder wrong. Nothing was written.
    """
    if not _NAME.fullmatch(name):
        raise Permanent(f"{name!r} is no name for a dataset", fix="a name like orders, in a-z0-9_")
    folder = into / name
    read = read_sample(sample)
    draft = _draft(name, sample, read, key, event_time)
    texts = {
        "contract.yaml": contract_text(draft),
        "staging.sql": staging_text(draft),
        f"marts/{draft.mart}.sql": mart_text(draft),
    }
    if (there := [file for file in texts if (folder / file).exists()]) and not force:
        raise Permanent(f"{folder / there[0]} is there already", fix="another name, or --force")
    with tempfile.TemporaryDirectory(prefix="drp-init-") as temporary:
        made = Path(temporary) / folder.resolve().name
        _write(made, texts)
        dataset = _checked(made, folder, _keep_marts(folder, made))
        refused = _refused(dataset, sample, read)
    _replace(folder, texts)
    return Scaffolded(
        dataset=name,
        folder=folder,
        files=list(texts),
        mart=draft.mart,
        rows=read.rows,
        more=read.more,
        columns={each.column.name: each.written_type for each in draft.fields},
        key=draft.key.column.name,
        key_repeats=draft.key.column.filled - draft.key.column.distinct,
        event_time=None if draft.event_time is None else draft.event_time.column.name,
        left_out=[column.name for column in draft.left_out],
        refused=refused,
    )


def _draft(name: str, sample: Path, read: Sample, key: str | None, event_time: str | None) -> Draft:
    typed = [column for column in read.columns if column.type is not None]
    chosen = _key(name, typed, read.rows, key)
    fields = _fields(typed, read.rows, chosen)
    moment = _event_time(typed, read.rows, event_time)
    return Draft(
        name=name,
        sample=sample.name,
        rows=read.rows,
        fields=fields,
        key=next(each for each in fields if each.column is chosen),
        event_time=next((each for each in fields if each.column is moment), None),
        left_out=[column for column in read.columns if column.type is None],
    )


def _key(name: str, columns: Sequence[SampledColumn], rows: int, wanted: str | None) -> SampledColumn:
    if wanted is not None:
        column = _named(columns, wanted, "--key")
        if column.filled < rows or column.type not in (*_KEYS, *_TIMES):
            why = (
                f"{rows - column.filled:,} rows have none"
                if column.filled < rows
                else f"it is a {column.type}"
            )
            raise Permanent(f"{wanted!r} is no key", why=why, fix="--key with a column that every row has")
        return column
    unique = [each for each in columns if each.type in _KEYS and each.filled == each.distinct == rows]
    if not unique:
        nearest = sorted((each for each in columns if each.type in _KEYS), key=lambda each: -each.distinct)
        told = ", ".join(f"{each.name} has {each.distinct:,} values" for each in nearest[:4])
        raise Permanent(
            f"no column of the sample is unique and always there ({rows:,} rows)",
            why=told or "none is a text or a whole number",
            fix="--key COLUMN: of rows with the same key the latest counts",
        )
    singular = name.removesuffix("s")
    names = (f"{singular}_id", f"{name}_id", "id", singular)
    return min(
        unique,
        key=lambda each: (
            names.index(each.name.lower()) if each.name.lower() in names else len(names),
            not _LOOKS_LIKE_A_KEY.fullmatch(each.name),
        ),
    )


def _event_time(columns: Sequence[SampledColumn], rows: int, wanted: str | None) -> SampledColumn | None:
    if wanted is not None:
        column = _named(columns, wanted, "--event-time")
        if column.type not in _TIMES or column.filled < rows:
            raise Permanent(
                f"{wanted!r} is no timestamp or date that every row has", fix="drp publish --time"
            )
        return column
    found = [each for each in columns if each.type in _TIMES and each.filled == rows]
    return min(
        found,
        key=lambda each: (each.type is ColumnType.DATE, not _LOOKS_LIKE_THE_TIME.search(each.name)),
        default=None,
    )


def _named(columns: Sequence[SampledColumn], name: str, option: str) -> SampledColumn:
    for column in columns:
        if column.name == name:
            return column
    there = ", ".join(column.name for column in columns)
    raise Permanent(f"the sample has no column {name!r}", why=f"it has {there}", fix=f"{option} COLUMN")


def _fields(columns: Sequence[SampledColumn], rows: int, key: SampledColumn) -> list[Field]:
    """Each column with a name that it can have in SQL."""
    taken = {*RAW_NAMES, DAY}
    fields = []
    for column in columns:
        snake = re.sub(
            r"[^a-z0-9_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.name).lower()
        ).strip("_")
        plain = snake[:50] if snake[:1].isalpha() else f"c_{snake[:48]}"
        if plain in taken:
            plain = f"source_{plain}"
        name = next(each for each in _numbered(plain) if each not in taken)
        taken.add(name)
        fields.append(Field(column, name, required=column.filled == rows, is_key=column is key))
    return fields


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}_{number}"


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for file, text in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")


def _keep_marts(folder: Path, made: Path) -> set[Path]:
    """Put beside what is made the marts of the folder that stay; their places in it."""
    stay = {file.relative_to(folder) for file in (folder / "marts").glob("*.sql")}
    stay = {file for file in stay if not (made / file).exists()}
    for file in stay:
        shutil.copyfile(folder / file, made / file)
    return stay


def _checked(made: Path, folder: Path, stay: Set[Path]) -> Dataset:
    """The dataset, once its contract is read and its SQL has run on no rows.

    Args:
        folder: where it is to stand.
        stay: what stood there before.
    """
    place = Path("staging.sql")
    try:
        dataset = load_dataset(made)
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in dataset.landed_columns)
        with Database.memory() as database:
            database.run("CREATE SCHEMA staging")
            database.run(f"CREATE TABLE landed ({columns})")
            database.run(f"CREATE TABLE {dataset.staging_table} AS {dataset.staging_sql}")
            for mart, sql in dataset.marts.items():
                place = Path("marts", f"{mart}.sql")
                database.run(sql)
    except ContractError as error:
        place = error.problems[0].file.relative_to(made)
        why = str(error.problems[0]).replace(str(made), str(folder))
    except Permanent as error:
        why = f"{folder / place}: {error.why or error.what}"
    else:
        return dataset
    fix = f"move {folder / place} away" if place in stay else "another sample"
    raise Permanent("the folder made of this sample would be wrong", why=why, fix=fix)


def _replace(folder: Path, texts: Mapping[str, str]) -> None:
    """Put the files in place once all of them are written; what else is in the folder is not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drp-init-", dir=folder) as temporary:
        _write(Path(temporary), texts)
        for file in texts:
            (folder / file).parent.mkdir(exist_ok=True)
            (Path(temporary) / file).replace(folder / file)


def _refused(dataset: Dataset, sample: Path, read: Sample) -> dict[str, int]:
    """How many rows of the sample the contract would refuse, by reason."""
    source = "urn:drp:sample"
    envelope = Envelope.of(dataset, source, _SOME_TIME)
    decoder = Decoder(dataset)
    chunks = read_rows(sample, layout_of(dataset, {}, source, _SOME_TIME), read.form)
    documents = (one for chunk in itertools.islice(chunks, CHUNKS) for one, _ in envelope.documents(chunk))
    slots = (decoder.decode(document, entry_id="946684800000-0") for document in documents)
    return dict(Counter(refused.reason for each in slots for refused in each.refused))
