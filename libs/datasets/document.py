"""A YAML file whose every value knows its line, and the mistakes found in it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from libs.datasets.problems import ContractError, Problem

__all__ = ["Document", "Findings", "Place", "read_yaml"]

Place = tuple[str | int, ...]
"""Where a value stands: keys and positions from the document's root."""

_SYNTAX: Final = "valid YAML: `key: value`, indented with spaces, text with `: ` or `#` in quotes"


class Document:
    """content is plain Python (dict, list, str, int, float, bool, None); YAML dates are ISO 8601 strings."""

    def __init__(self, path: Path, tree: Any) -> None:
        self.path = path
        self._tree = tree
        self.content: Any = _plain(tree)

    def line(self, place: Place) -> int:
        """The line (from 1) of the value there, or of the nearest one around it."""
        node, found = self._tree, 0
        for step in place:
            position = _position(node, step)
            if position is None:
                break
            found = position
            node = node[step]
        return found + 1


def _position(node: Any, step: str | int) -> int | None:
    marks = getattr(node, "lc", None)
    if marks is None or marks.data is None or step not in marks.data:
        return None
    return int(marks.data[step][0])


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_plain(value) for value in node]
    if isinstance(node, (dt.date, dt.datetime)):
        return node.isoformat()
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return None if node is None else str(node)


def read_yaml(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        ContractError: it is missing, not UTF-8 or not YAML, or a key stands twice.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(error.problem or error.context or "not YAML").split())
        line = mark.line + 1 if mark is not None else 1
        raise ContractError([Problem(path, line, what, _SYNTAX)]) from error
    except YAMLError as error:
        raise ContractError([Problem(path, 1, " ".join(str(error).split()), _SYNTAX)]) from error
    except UnicodeDecodeError as error:
        raise ContractError([Problem(path, 1, "the file is not UTF-8", "save it as UTF-8")]) from error
    except OSError as error:
        what = f"it cannot be read ({error.strerror})"
        raise ContractError([Problem(path, 1, what, "a readable contract.yaml")]) from error
    if not isinstance(tree, Mapping):
        raise ContractError(
            [Problem(path, 1, "no mapping at the top", "apiVersion: v3.1.0, kind: DataContract, …")]
        )
    return Document(path, tree)


class Findings:
    """The mistakes of one dataset folder, gathered so that a person sees all of them at once."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def add(self, place: Place, what: str, instead: str) -> None:
        self.problems.append(Problem(self.document.path, self.document.line(place), what, instead))

    def add_in(self, file: Path, line: int, what: str, instead: str) -> None:
        self.problems.append(Problem(file, line, what, instead))

    def settle(self) -> None:
        """Raises:
        ContractError: something was found.
        """
        if self.problems:
            raise ContractError(sorted(self.problems, key=lambda problem: (str(problem.file), problem.line)))
