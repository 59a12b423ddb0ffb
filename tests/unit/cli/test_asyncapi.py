"""drp dataset asyncapi, where nothing runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.unit.cli.calling import Drp

DATASETS = Path(__file__).parents[2] / "data" / "datasets"


def test_the_document_is_yaml_or_json(drp: Drp) -> None:
    found = drp("dataset", "asyncapi")
    assert (found.code, found.err) == (0, "")

    as_json = drp("dataset", "asyncapi", "--json")

    assert YAML(typ="safe").load(found.out) == json.loads(as_json.out)


def test_a_persons_own_datasets_are_in_it(drp: Drp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_DATASETS_DIR", str(DATASETS))

    document = json.loads(drp("dataset", "asyncapi", "--json").out)

    assert document["channels"]["payments"]["address"] == "finance.payments"
    assert "orders" in document["channels"]
