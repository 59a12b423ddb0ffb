"""A right contract, and what can be wrong in one: what is written, where it is told, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: urn:test:things
version: 2.0.1
status: active
schema:
  - name: things
    logicalType: object
    physicalName: raw.things_raw
    properties:
      - name: thing_id
        physicalName: source_thing_id
        logicalType: string
        primaryKey: true
        required: true
      - name: price
        logicalType: number
        physicalType: numeric(8,2)
        quality:
          - name: price_not_negative
            metric: invalidValues
            arguments: {minimum: 0}
            mustBeLessOrEqualTo: 5
            unit: percent
      - name: seen_at
        logicalType: timestamp
    quality:
      - name: not_empty
        metric: rowCount
        mustBeGreaterOrEqualTo: 1
  - name: things_by_day
    logicalType: object
slaProperties:
  - property: latency
    value: 60
    unit: s
customProperties:
  - property: eventTimeField
    value: seen_at
"""
STAGING = "-- one row per thing\nSELECT landed.* FROM landed\n"
MART = "-- one row a day\nSELECT count(*) AS things FROM staging.things\n"


def a_folder(
    tmp_path: Path, contract: str = CONTRACT, staging: str | None = STAGING, mart: str = MART
) -> Path:
    folder = tmp_path / "things"
    (folder / "marts").mkdir(parents=True)
    (folder / "contract.yaml").write_text(contract, encoding="utf-8")
    (folder / "marts" / "things_by_day.sql").write_text(mart, encoding="utf-8")
    if staging is not None:
        (folder / "staging.sql").write_text(staging, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Mistake:
    """`old` becomes `new` in the contract; the line told contains `at`."""

    old: str
    new: str
    at: str
    what: str
    instead: str


MISTAKES = {
    "YAML that is none": Mistake("status: active", "status: [active", "schema:", "expected", "valid YAML"),
    "a key that stands twice": Mistake(
        "status: active", "status: active\nstatus: draft", "status: draft", "duplicate key", "valid YAML"
    ),
    "another kind of document": Mistake(
        "kind: DataContract", "kind: Dataset", "kind: Dataset", "kind `Dataset`", "kind: DataContract"
    ),
    "an older standard": Mistake(
        "apiVersion: v3.1.0", "apiVersion: v3.0.2", "apiVersion", "v3.0.2", "apiVersion: v3.1.0"
    ),
    "no id": Mistake("id: urn:test:things\n", "", "apiVersion", "`id` is missing", "id: …"),
    "a version without patch": Mistake(
        "2.0.1", "'2.0'", "version:", "no major.minor.patch", "version: 1.0.0"
    ),
    "a version that YAML reads as a number": Mistake(
        "2.0.1", "2.0", "version:", "not of type string", "string"
    ),
    "an unknown key": Mistake(
        "        required: true", "        requierd: true", "requierd", "unknown key `requierd`", "required"
    ),
    "an unknown type": Mistake(
        "logicalType: timestamp", "logicalType: datetime", "logicalType: datetime", "`datetime`", "string"
    ),
    "a type of the standard that is not stored": Mistake(
        "logicalType: timestamp", "logicalType: time", "logicalType: time", "not supported", "timestamp"
    ),
    "no type": Mistake(
        "        logicalType: timestamp\n",
        "        description: when\n",
        "- name: seen_at",
        "no logicalType",
        "logicalType:",
    ),
    "a nested object": Mistake(
        "logicalType: timestamp",
        "logicalType: object\n        properties: [{name: a, logicalType: string}]",
        "logicalType: object\n",
        "nested",
        "a property for each",
    ),
    "a number without physicalType": Mistake(
        "        physicalType: numeric(8,2)\n", "", "- name: price", "no physicalType", "numeric(12,2)"
    ),
    "a number stored as double": Mistake(
        "numeric(8,2)", "double", "double", "not stored as double", "numeric(12,2)"
    ),
    "a number too wide for the warehouse": Mistake(
        "numeric(8,2)", "numeric(60,2)", "numeric(60", "out of range", "p ≤ 38"
    ),
    "text stored as uuid": Mistake(
        "        logicalType: timestamp",
        "        logicalType: string\n        physicalType: uuid",
        "physicalType: uuid",
        "not stored as uuid",
        "physicalType: text",
    ),
    "two keys": Mistake(
        "        logicalType: timestamp",
        "        logicalType: timestamp\n        primaryKey: true",
        "primaryKey: true",
        "two primary keys",
        "one property only",
    ),
    "no key": Mistake(
        "        primaryKey: true\n", "", "- name: thing_id", "no primary key", "primaryKey: true"
    ),
    "an optional key": Mistake(
        "        required: true", "        required: false", "thing_id", "is optional", "required: true"
    ),
    "a column no identifier": Mistake(
        "source_thing_id", "Thing-Id", "physicalName: Thing-Id", "no identifier", "physicalName: thing_id"
    ),
    "a column of the platform": Mistake(
        "source_thing_id", "batch_id", "thing_id", "belongs to the platform", "source_batch_id"
    ),
    "two properties in one column": Mistake(
        "- name: seen_at",
        "- name: seen_at\n        physicalName: price",
        "seen_at",
        "column `price`",
        "another_name",
    ),
    "the same property twice": Mistake(
        "- name: seen_at", "- name: price", "- name: price", "two properties", "each name once"
    ),
    "options that nobody reads": Mistake(
        "        logicalType: timestamp",
        "        logicalType: string\n        logicalTypeOptions: {maxLength: 3}",
        "maxLength",
        "not acted upon",
        "invalidValues",
    ),
    "an enum that nobody reads": Mistake(
        "        logicalType: timestamp",
        "        logicalType: string\n        enum: [{value: a}]",
        "enum:",
        "not acted upon",
        "validValues",
    ),
    "a rule's name taken": Mistake(
        "name: not_empty", "name: price_not_negative", "price_not_negative", "is taken", "name:"
    ),
    "a built-in rule's name": Mistake(
        "name: not_empty", "name: freshness", "name: freshness", "is taken", "name:"
    ),
    "a rule's name no name": Mistake(
        "name: not_empty", "name: Not empty!", "Not empty", "no name for a rule", "not_empty"
    ),
    "an unknown metric": Mistake(
        "metric: rowCount", "metric: rowcount", "rowcount", "`rowcount`", "rowCount"
    ),
    "a metric of the standard that is not judged": Mistake(
        "metric: rowCount", "metric: missingValues", "missingValues", "not supported", "nullValues"
    ),
    "a row rule at the table": Mistake(
        "metric: rowCount",
        "metric: nullValues",
        "metric: nullValues",
        "judges one property",
        "at that property",
    ),
    "a table rule at a property": Mistake(
        "metric: invalidValues", "metric: rowCount", "metric: rowCount", "judges a table", "schema object"
    ),
    "an unknown argument": Mistake("minimum: 0", "min: 0", "min: 0", "unknown argument `min`", "minimum"),
    "two conditions in a rule": Mistake(
        "{minimum: 0}", "{minimum: 0, validValues: [1]}", "validValues", "several conditions", "one of"
    ),
    "a minimum with too many digits": Mistake(
        "{minimum: 0}", "{minimum: 0.005}", "0.005", "more digits", "typed as the column"
    ),
    "a minimum of another type": Mistake(
        "{minimum: 0}", "{minimum: abc}", "abc", "price is a number", "typed as the column"
    ),
    "a minimum above the maximum": Mistake(
        "{minimum: 0}", "{minimum: 2, maximum: 1}", "maximum", "the minimum is above", "one of"
    ),
    "a pattern for a number": Mistake("{minimum: 0}", "{pattern: a}", "pattern", "judges text", "one of"),
    "a tolerance as a count": Mistake(
        "unit: percent", "unit: rows", "price_not_negative", "share of the rows", "unit: percent"
    ),
    "a tolerance above all": Mistake(
        "mustBeLessOrEqualTo: 5",
        "mustBeLessOrEqualTo: 105",
        "price_not_negative",
        "share of the rows",
        "0 to 100",
    ),
    "no comparison": Mistake(
        "            mustBeLessOrEqualTo: 5\n",
        "",
        "price_not_negative",
        "not exactly one comparison",
        "mustBe: 0",
    ),
    "a comparison with no number": Mistake(
        "mustBeGreaterOrEqualTo: 1", "mustNotBe: 0", "not_empty", "needs a number", "mustBeGreaterOrEqualTo"
    ),
    "a severity that would not block": Mistake(
        "        metric: rowCount",
        "        severity: warning\n        metric: rowCount",
        "severity: warning",
        "not acted upon",
        "severity: error",
    ),
    "SQL with a clock in a rule": Mistake(
        "        metric: rowCount\n        mustBeGreaterOrEqualTo: 1",
        "        type: sql\n        query: SELECT count(*) FROM ${table} WHERE seen_at > now()\n        mustBe: 0",
        "query:",
        "`now`",
        "max(event_time)",
    ),
    "an unknown placeholder": Mistake(
        "        metric: rowCount\n        mustBeGreaterOrEqualTo: 1",
        "        type: sql\n        query: SELECT count(*) FROM ${schema}\n        mustBe: 0",
        "query:",
        "${schema}",
        "${table}",
    ),
    "an engine that is not here": Mistake(
        "        metric: rowCount\n        mustBeGreaterOrEqualTo: 1",
        "        type: custom\n        engine: soda\n        implementation: x",
        "engine: soda",
        "engine `soda`",
        "engine: greatExpectations",
    ),
    "an implementation as text": Mistake(
        "        metric: rowCount\n        mustBeGreaterOrEqualTo: 1",
        "        type: custom\n        engine: greatExpectations\n        implementation: expect_it",
        "implementation: expect_it",
        "is text",
        "kwargs",
    ),
    "an unknown expectation": Mistake(
        "        metric: rowCount\n        mustBeGreaterOrEqualTo: 1",
        "        type: custom\n        engine: greatExpectations\n"
        "        implementation: {type: expect_table_row_count_to_be_betwen, kwargs: {}}",
        "betwen",
        "no `expect_table_row_count_to_be_betwen`",
        "type: expect_table_row_count_to_be_between",
    ),
    "an expectation's share out of range": Mistake(
        "        metric: rowCount\n        mustBeGreaterOrEqualTo: 1",
        "        type: custom\n        engine: greatExpectations\n"
        "        implementation: {type: expect_column_values_to_be_unique, kwargs: {column: price, mostly: 98}}",
        "mostly",
        "mostly is a share",
        "0.98",
    ),
    "a mart without SQL": Mistake(
        "- name: things_by_day",
        "- name: things_by_week",
        "things_by_week",
        "neither the dataset nor",
        "marts/things_by_week.sql",
    ),
    "no object of the folder's name": Mistake(
        "- name: things\n", "- name: thing\n", "schema:", "`things`", "name: things"
    ),
    "another table": Mistake(
        "raw.things_raw", "public.things", "public.things", "not where it lands", "raw.things_raw"
    ),
    "a stream of the platform": Mistake(
        "  - property: eventTimeField\n    value: seen_at",
        "  - property: stream\n    value: drp.batches",
        "value: drp.batches",
        "cannot be",
        "value: things",
    ),
    "an event time that is no time": Mistake(
        "value: seen_at", "value: price", "value: price", "no timestamp", "value: seen_at"
    ),
    "a latency without unit": Mistake("    unit: s\n", "", "value: 60", "positive time", "unit: s"),
    "a pattern with look-ahead": Mistake(
        "        logicalType: timestamp",
        "        logicalType: string\n        quality:\n"
        "          - {name: p, metric: invalidValues, arguments: {pattern: '(?=a)b'}, mustBe: 0}",
        "pattern",
        "not read alike",
        "one of",
    ),
}
