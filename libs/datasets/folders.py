"""Finding and loading dataset folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from libs.datasets.contract import read_contract
from libs.datasets.model import Dataset
from libs.datasets.problems import ContractError, Problem

__all__ = [
    "BUILT_IN",
    "ContractError",
    "Problem",
    "check",
    "datasets_folder_from",
    "load_dataset",
    "load_datasets",
]

BUILT_IN: Final = Path(__file__).parent


def datasets_folder_from(value: str | None) -> tuple[Path, ...]:
    """The folders that DRP_DATASETS_DIR names (separated by os.pathsep), after the built-in one.

    A dataset found there takes the place of the built-in one of the same name.
    """
    named = tuple(Path(part).expanduser() for part in (value or "").split(os.pathsep) if part.strip())
    return (BUILT_IN, *named)


def load_datasets(folders: Path | Sequence[Path] | None = None) -> dict[str, Dataset]:
    """Every dataset in the folders (None: the built-in folder), by name.

    Each folder is a dataset itself (it holds contract.yaml) or holds dataset folders.

    Raises:
        ContractError: with `file:line: what is wrong; write instead: …` for each mistake.
    """
    found = [folders] if isinstance(folders, Path) else list(folders or [BUILT_IN])
    problems: list[Problem] = []
    datasets: dict[str, Dataset] = {}
    for folder in found:
        for place in _dataset_folders(folder):
            try:
                dataset = read_contract(place)
            except ContractError as error:
                problems.extend(error.problems)
                continue
            problem = _clash(dataset, datasets)
            if problem is not None:
                problems.append(problem)
            else:
                datasets[dataset.name] = dataset
    if problems:
        raise ContractError(problems)
    return datasets


def load_dataset(folder: Path) -> Dataset:
    """The dataset in this one folder.

    Raises:
        ContractError: as load_datasets.
    """
    return read_contract(folder)


def check(folder: Path) -> list[Problem]:
    """Every mistake in one dataset folder; empty when it can be used."""
    try:
        read_contract(folder)
    except ContractError as error:
        return list(error.problems)
    return []


def _dataset_folders(folder: Path) -> list[Path]:
    if (folder / "contract.yaml").is_file():
        return [folder]
    found = sorted(file.parent for file in folder.glob("*/contract.yaml"))
    if not found:
        instead = "a folder with <dataset>/contract.yaml, in DRP_DATASETS_DIR"
        raise ContractError([Problem(folder, 1, "no dataset is here", instead)])
    return found


def _clash(dataset: Dataset, known: dict[str, Dataset]) -> Problem | None:
    """What keeps the dataset from standing beside those known; one of the user's replaces a built-in one."""
    file = dataset.path / "contract.yaml"
    namesake = known.get(dataset.name)
    if namesake is not None and namesake.path.parent != BUILT_IN:
        return Problem(file, 1, f"dataset `{dataset.name}` is also in {namesake.path}", "another folder name")
    for other in known.values():
        if other.stream == dataset.stream and other.name != dataset.name:
            what = f"stream `{dataset.stream}` already belongs to dataset `{other.name}` ({other.path})"
            return Problem(file, 1, what, "another value for the custom property stream")
    return None
