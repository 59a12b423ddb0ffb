"""A dataset is a folder: {contract.yaml, staging.sql, marts/*.sql}. Only this reader knows its columns.

`load_datasets()` gives what every service works from. Importing is light: YAML and JSON schema are loaded by
the reader only when it reads.
"""

from __future__ import annotations

from libs.datasets.folders import (
    BUILT_IN,
    ContractError,
    Problem,
    check,
    datasets_folder_from,
    load_dataset,
    load_datasets,
)
from libs.datasets.model import (
    Column,
    ColumnType,
    Comparison,
    CustomRule,
    Dataset,
    Expectation,
    Freshness,
    RowRule,
    RowRuleKind,
    TableRule,
    TableRuleKind,
    quoted,
)
from libs.datasets.raw import RawChanges, raw_changes, raw_columns, raw_key_index, raw_table_ddl

__all__ = [
    "BUILT_IN",
    "Column",
    "ColumnType",
    "Comparison",
    "ContractError",
    "CustomRule",
    "Dataset",
    "Expectation",
    "Freshness",
    "Problem",
    "RawChanges",
    "RowRule",
    "RowRuleKind",
    "TableRule",
    "TableRuleKind",
    "check",
    "datasets_folder_from",
    "load_dataset",
    "load_datasets",
    "quoted",
    "raw_changes",
    "raw_columns",
    "raw_key_index",
    "raw_table_ddl",
]
