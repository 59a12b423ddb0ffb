"""Finding and loading dataset folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

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

    Each folder is a dataset itself or holds dataset folders.

    Raises:
        ContractError: with `file:line: what is wrong; write instead: …` for each mistake.
    """
    raise NotImplementedError


def load_dataset(folder: Path) -> Dataset:
    """The dataset in this one folder.

    Raises:
        ContractError: as load_datasets.
    """
    raise NotImplementedError


def check(folder: Path) -> list[Problem]:
    """Every mistake in one dataset folder; empty when it can be used."""
    raise NotImplementedError
