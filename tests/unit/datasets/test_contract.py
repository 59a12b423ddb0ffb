"""Every mistake in a contract is told with its file, its line, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from libs.datasets import BUILT_IN, ContractError, check, load_dataset
from libs.datasets.standard import odcs_schema
from tests.unit.datasets.mistakes import CONTRACT, MART, MISTAKES, Mistake, a_folder


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_line_and_what_to_write(tmp_path: Path, mistake: Mistake) -> None:
    assert mistake.old in CONTRACT
    contract = CONTRACT.replace(mistake.old, mistake.new, 1)
    problems = check(a_folder(tmp_path, contract))

    told = [problem for problem in problems if mistake.what in problem.what]
    assert told, [str(problem) for problem in problems]
    line = contract.splitlines()[told[0].line - 1]
    assert mistake.at.strip() in line, (told[0].line, line)
    assert mistake.instead in told[0].instead
    assert str(told[0]).startswith(f"{tmp_path}/things/contract.yaml:{told[0].line}: ")
    assert "; write instead: " in str(told[0])


def test_the_contract_that_the_mistakes_start_from_is_right(tmp_path: Path) -> None:
    assert check(a_folder(tmp_path)) == []


def test_several_mistakes_are_told_at_once_in_order(tmp_path: Path) -> None:
    contract = CONTRACT.replace("numeric(8,2)", "double").replace("name: not_empty", "name: freshness")
    problems = check(a_folder(tmp_path, contract, staging="SELECT now() FROM landed"))

    assert [problem.file.name for problem in problems] == ["contract.yaml", "contract.yaml", "staging.sql"]
    assert problems[0].line < problems[1].line


SQL_FAULTS = {
    "a clock": ("SELECT landed.*,\n  now() AS at FROM landed", 2, "`now`"),
    "a clock without brackets": ("SELECT *, current_timestamp FROM landed", 1, "`current_timestamp`"),
    "chance": ("SELECT *, random () FROM landed", 1, "`random`"),
    "two statements": ("SELECT * FROM landed;\nSELECT 1", 1, "more than one statement"),
    "no SELECT": ("-- nothing\nDELETE FROM landed", 2, "one SELECT"),
    "nothing": ("-- only a comment\n", 1, "no statement"),
    "another source": ("SELECT * FROM orders", 1, "does not read `landed`"),
}


@pytest.mark.parametrize(("sql", "line", "what"), SQL_FAULTS.values(), ids=SQL_FAULTS.keys())
def test_a_model_is_one_select_without_a_clock(tmp_path: Path, sql: str, line: int, what: str) -> None:
    (problem,) = check(a_folder(tmp_path, staging=sql))

    assert (problem.file.name, problem.line) == ("staging.sql", line)
    assert what in problem.what


def test_words_in_comments_and_strings_are_no_clock(tmp_path: Path) -> None:
    sql = "-- no now(); no random()\nSELECT landed.*, 'current_date; now()' AS x /* today() */ FROM landed;\n"
    dataset = load_dataset(a_folder(tmp_path, staging=sql))

    assert dataset.staging_sql.endswith("FROM landed")


def test_a_dataset_without_staging_sql_is_refused(tmp_path: Path) -> None:
    (problem,) = check(a_folder(tmp_path, staging=None))

    assert "no staging.sql" in problem.what


def test_a_mart_is_named_like_a_table(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder / "marts" / "Per-Day.sql").write_text(MART, encoding="utf-8")
    (problem,) = check(folder)

    assert problem.file.name == "Per-Day.sql"
    assert "no identifier" in problem.what


def test_the_error_holds_every_problem_as_text(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        load_dataset(a_folder(tmp_path, CONTRACT.replace("numeric(8,2)", "double")))

    assert str(caught.value).count("write instead") == len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "path", [BUILT_IN / "orders", Path("tests/data/datasets/payments")], ids=lambda p: p.name
)
def test_our_contracts_keep_the_official_schema(path: Path) -> None:
    content = YAML(typ="safe", pure=True).load(path / "contract.yaml")
    content = _with_dates_as_text(content)
    jsonschema.Draft201909Validator(odcs_schema()).validate(content)
    assert check(path) == []


def _with_dates_as_text(node: object) -> object:
    if isinstance(node, dict):
        return {key: _with_dates_as_text(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_dates_as_text(value) for value in node]
    return node.isoformat() if hasattr(node, "isoformat") else node
