"""One dataset folder, read whole: contract.yaml, staging.sql, marts/*.sql."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Final

from libs.datasets.columns import IDENTIFIER, read_columns, read_key
from libs.datasets.document import Findings, Place, read_yaml
from libs.datasets.model import Column, ColumnType, Dataset, Freshness
from libs.datasets.rules import RuleSet, Scope, add_unique, built_in_rules, read_rules
from libs.datasets.sqltext import find_fault, statement
from libs.datasets.standard import validate

__all__ = ["read_contract"]

_API: Final = "v3.1.0"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_VERSION: Final = re.compile(r"(\d+)\.\d+\.\d+")
_STREAM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_SECONDS: Final = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "seconds": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "minutes": 60,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
    "hours": 3600,
    "d": 86400,
    "day": 86400,
    "days": 86400,
}


def read_contract(folder: Path) -> Dataset:
    """The dataset in this folder.

    Raises:
        ContractError: with every mistake found.
    """
    document = read_yaml(folder / "contract.yaml")
    findings = Findings(document)
    _check_version(document.content, findings)
    validate(findings)
    findings.settle()
    dataset = _Reader(folder, document.content, findings).read()
    findings.settle()
    return dataset


def _check_version(content: dict[str, Any], findings: Findings) -> None:
    if content.get("kind") not in {None, "DataContract"}:
        findings.add(("kind",), f"kind `{content['kind']}`", "kind: DataContract")
    elif content.get("apiVersion") not in {None, _API}:
        findings.add(
            ("apiVersion",), f"apiVersion `{content['apiVersion']}` is not read here", f"apiVersion: {_API}"
        )
    findings.settle()


class _Reader:
    def __init__(self, folder: Path, content: dict[str, Any], findings: Findings) -> None:
        self.folder = folder
        self.content = content
        self.findings = findings
        self.name = folder.resolve().name
        self.rules = RuleSet()

    def read(self) -> Dataset:
        """The dataset; worth nothing if there are findings."""
        if not _NAME.fullmatch(self.name):
            self.findings.add(
                (), f"the folder `{self.name}` names no dataset", "a folder name like orders, in a-z0-9_"
            )
        objects = self.content.get("schema", [])
        own = next((index for index, obj in enumerate(objects) if obj["name"] == self.name), None)
        if own is None:
            self.findings.add(
                ("schema",),
                f"no schema object is called `{self.name}`, like the folder",
                f"schema: [- name: {self.name}, …]",
            )
            self.findings.settle()
        placed, key = self._own(("schema", own or 0), objects[own or 0])
        columns = tuple(column for _, column in placed)
        marts = self._marts()
        descriptions = {
            obj["name"]: self._mart(("schema", index), obj, marts)
            for index, obj in enumerate(objects)
            if index != own
        }
        match = self._version()
        return Dataset(
            name=self.name,
            stream=self._stream(),
            version=str(self.content["version"]),
            dataschema=f"urn:drp:{self.name}:v{match}",
            columns=columns,
            key=key or Column("", "", ColumnType.STRING, required=True),
            event_time=self._event_time(columns),
            row_rules=tuple(self.rules.row),
            table_rules=(*self.rules.table, *built_in_rules(f"staging.{self.name}")),
            custom_rules=tuple(self.rules.custom),
            freshness=self._freshness(),
            staging_sql=self._model(self.folder / "staging.sql", "landed"),
            marts=marts,
            path=self.folder,
            fingerprint=_fingerprint(self.folder),
            description=objects[own or 0].get("description"),
            mart_descriptions={name: text for name, text in descriptions.items() if text},
        )

    def _own(self, at: Place, obj: dict[str, Any]) -> tuple[tuple[tuple[Place, Column], ...], Column | None]:
        table = f"raw.{self.name}_raw"
        if obj.get("physicalName", table) not in {table, f"{self.name}_raw"}:
            self.findings.add(
                (*at, "physicalName"),
                f"`{obj['physicalName']}` is not where it lands",
                f"physicalName: {table}",
            )
        properties = obj.get("properties", [])
        if not properties:
            instead = "properties: [- name: …, logicalType: …]"
            self.findings.add(at, f"the schema object `{self.name}` has no properties", instead)
        placed = read_columns(properties, (*at, "properties"), self.findings)
        keys: list[Place] = [
            (*at, "properties", index) for index, prop in enumerate(properties) if prop.get("primaryKey")
        ]
        key = read_key(placed, keys, self.findings)
        relation = f"staging.{self.name}"
        self._rules(at, obj, relation, placed, is_mart=False)
        for place, column in placed:
            if properties[place[-1]].get("unique"):
                add_unique(column, relation, self.rules)
        return placed, key

    def _mart(self, at: Place, obj: dict[str, Any], marts: dict[str, str]) -> str | None:
        name = obj["name"]
        if name not in marts:
            self.findings.add(
                (*at, "name"),
                f"schema object `{name}` is neither the dataset nor one of its marts",
                f"marts/{name}.sql beside it, or one of {', '.join([self.name, *marts])}",
            )
            return None
        placed = read_columns(obj.get("properties", []), (*at, "properties"), self.findings, frozenset())
        self._rules(at, obj, f"analytics.{name}", placed, is_mart=True)
        description: str | None = obj.get("description")
        return description

    def _rules(
        self,
        at: Place,
        obj: dict[str, Any],
        relation: str,
        placed: tuple[tuple[Place, Column], ...],
        *,
        is_mart: bool,
    ) -> None:
        fields = {column.field: column for _, column in placed}
        scope = Scope(relation, is_mart, None, fields)
        for place, column in placed:
            entries = obj["properties"][place[-1]].get("quality")
            read_rules(
                entries,
                (*place, "quality"),
                Scope(relation, is_mart, column, fields),
                self.rules,
                self.findings,
            )
        read_rules(obj.get("quality"), (*at, "quality"), scope, self.rules, self.findings)

    def _version(self) -> str:
        version = str(self.content["version"])
        match = _VERSION.fullmatch(version)
        if match is None:
            self.findings.add(("version",), f"version `{version}` has no major.minor.patch", "version: 1.0.0")
            return "0"
        return match[1]

    def _custom(self, name: str) -> tuple[Place, Any] | None:
        for index, entry in enumerate(self.content.get("customProperties", [])):
            if entry["property"] == name:
                return ("customProperties", index, "value"), entry["value"]
        return None

    def _stream(self) -> str:
        found = self._custom("stream")
        if found is None:
            return self.name
        place, stream = found
        if not isinstance(stream, str) or not _STREAM.fullmatch(stream) or stream.startswith("drp."):
            self.findings.add(place, f"`{stream}` cannot be a dataset's stream", f"value: {self.name}")
        return str(stream)

    def _event_time(self, columns: tuple[Column, ...]) -> Column | None:
        found = self._custom("eventTimeField")
        if found is None:
            return None
        place, field = found
        times = [column for column in columns if column.type in {ColumnType.TIMESTAMP, ColumnType.DATE}]
        for column in times:
            if column.field == field:
                return column
        choices = " or ".join(column.field for column in times) or "nothing: no field is a timestamp"
        self.findings.add(place, f"`{field}` is no timestamp or date of this dataset", f"value: {choices}")
        return None

    def _freshness(self) -> Freshness | None:
        agreed = [
            (index, entry)
            for index, entry in enumerate(self.content.get("slaProperties", []))
            if entry["property"] == "latency"
        ]
        if not agreed:
            return None
        if len(agreed) > 1:
            self.findings.add(("slaProperties", agreed[1][0]), "two latencies", "property: latency once")
        index, entry = agreed[0]
        place: Place = ("slaProperties", index)
        factor, value = _SECONDS.get(str(entry.get("unit", "")).lower()), entry["value"]
        if factor is None or isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            self.findings.add((*place, "value"), "a latency is a positive time", "value: 3600 and unit: s")
            return None
        return Freshness(max_seconds=float(value * factor), tolerance=self._late_share(entry, place))

    def _late_share(self, entry: dict[str, Any], place: Place) -> float:
        for index, extra in enumerate(entry.get("customProperties", [])):
            at = (*place, "customProperties", index)
            percent = extra["value"]
            if extra["property"] != "tolerancePercent":
                self.findings.add(
                    at, f"`{extra['property']}` is not known here", "property: tolerancePercent"
                )
            elif isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
                self.findings.add(at, "the tolerance is a share", "value: 10 (0 to 100)")
            else:
                return round(percent / 100, 12)
        return 0.0

    def _marts(self) -> dict[str, str]:
        marts: dict[str, str] = {}
        for file in sorted((self.folder / "marts").glob("*.sql")):
            if not IDENTIFIER.fullmatch(file.stem):
                self.findings.add_in(
                    file,
                    1,
                    f"mart `{file.stem}` is no identifier in lower case",
                    "a file name like daily_metrics.sql",
                )
                continue
            marts[file.stem] = self._model(file, None)
        return marts

    def _model(self, file: Path, reads: str | None) -> str:
        try:
            sql = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            instead = "one with SELECT landed.* FROM landed"
            self.findings.add((), f"the dataset has no {file.name}", instead)
            return ""
        except (OSError, UnicodeDecodeError) as error:
            self.findings.add_in(
                file, 1, f"it cannot be read ({type(error).__name__})", "a readable file in UTF-8"
            )
            return ""
        fault = find_fault(sql, reads=reads)
        if fault is not None:
            self.findings.add_in(file, *fault)
        return statement(sql)


def _fingerprint(folder: Path) -> str:
    """sha256 over the folder's contract and SQL: names and contents."""
    digest = hashlib.sha256()
    for file in [folder / "contract.yaml", folder / "staging.sql", *sorted((folder / "marts").glob("*.sql"))]:
        if file.is_file():
            content = file.read_bytes()
            digest.update(f"{file.relative_to(folder).as_posix()}\n{len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
