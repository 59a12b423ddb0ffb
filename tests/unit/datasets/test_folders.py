"""Which folders are read, and what they may not share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from libs.datasets import BUILT_IN, ContractError, datasets_folder_from, load_dataset, load_datasets

TEST_DATASETS = Path("tests/data/datasets")


def a_copy(to: Path, *, stream: str | None = None) -> Path:
    shutil.copytree(BUILT_IN / "orders", to)
    contract = to / "contract.yaml"
    text = contract.read_text(encoding="utf-8")
    if stream is not None:
        text = text.replace("    value: orders\n", f"    value: {stream}\n")
    if to.name != "orders":
        text = text.replace("- name: orders\n", f"- name: {to.name}\n").replace(
            "raw.orders_raw", f"raw.{to.name}_raw"
        )
    contract.write_text(text, encoding="utf-8")
    return to


def test_the_built_in_folder_is_read_by_default() -> None:
    assert list(load_datasets()) == ["orders"]


def test_the_setting_adds_folders_to_the_built_in_one() -> None:
    folders = datasets_folder_from(str(TEST_DATASETS))

    assert sorted(load_datasets(folders)) == ["orders", "payments"]


@pytest.mark.parametrize("value", [None, "", os.pathsep])
def test_an_empty_setting_is_the_built_in_folder(value: str | None) -> None:
    assert datasets_folder_from(value) == (BUILT_IN,)


def test_several_folders_are_separated_like_paths(tmp_path: Path) -> None:
    value = os.pathsep.join([str(TEST_DATASETS), str(tmp_path)])

    assert datasets_folder_from(value) == (BUILT_IN, TEST_DATASETS, tmp_path)


def test_a_folder_may_be_the_dataset_itself() -> None:
    assert list(load_datasets(TEST_DATASETS / "payments")) == ["payments"]


def test_ones_own_orders_take_the_place_of_the_built_in_ones(tmp_path: Path) -> None:
    own = a_copy(tmp_path / "orders", stream="my.orders")

    assert load_datasets((BUILT_IN, tmp_path))["orders"].path == own


def test_a_name_in_two_folders_is_refused(tmp_path: Path) -> None:
    a_copy(tmp_path / "one" / "orders")
    a_copy(tmp_path / "two" / "orders")

    with pytest.raises(ContractError, match="dataset `orders` is also in"):
        load_datasets((tmp_path / "one", tmp_path / "two"))


def test_two_datasets_on_one_stream_are_refused(tmp_path: Path) -> None:
    a_copy(tmp_path / "orders")
    a_copy(tmp_path / "returns")

    with pytest.raises(ContractError, match="stream `orders` already belongs to dataset `orders`"):
        load_datasets(tmp_path)


def test_a_folder_without_datasets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no dataset is here"):
        load_datasets(tmp_path)


def test_the_fingerprint_follows_contract_and_sql_and_nothing_else(tmp_path: Path) -> None:
    folder = a_copy(tmp_path / "orders")
    first = load_dataset(folder).fingerprint
    (folder / "README.md").write_text("notes")

    assert load_dataset(folder).fingerprint == first == load_datasets()["orders"].fingerprint
    with (folder / "staging.sql").open("a") as file:
        file.write("\n-- a word more\n")
    assert load_dataset(folder).fingerprint != first


def test_importing_is_light() -> None:
    heavy = "{'jsonschema', 'ruamel.yaml', 'duckdb', 'great_expectations'}"
    code = f"import sys, libs.datasets; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"
