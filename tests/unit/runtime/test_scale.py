"""How many replicas of a service: what may be asked for, and what it means."""

from __future__ import annotations

import pytest

from libs.errors import Permanent
from libs.runtime.layout import SERVICES
from libs.runtime.scale import CONSUMERS, read_scale, replicas


def test_what_is_told_in_one_text_or_in_several_is_the_same() -> None:
    assert read_scale(["ingestor=3", "validator=2"]) == {"ingestor": 3, "validator": 2}
    assert read_scale([" ingestor = 3, validator=2,"]) == {"ingestor": 3, "validator": 2}
    assert read_scale(["ingestor=3", "ingestor=1"]) == {"ingestor": 1}
    assert read_scale([""]) == {}


@pytest.mark.parametrize(
    "text",
    ["ingestor", "ingestor=", "ingestor=0", "ingestor=-1", "ingestor=17", "ingestor=²", "ingestor=2=3"],
)
def test_what_is_no_number_of_replicas_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(Permanent, match=r"no number of replicas.*ingestor=1 to ingestor=16"):
        read_scale([text])


@pytest.mark.parametrize("name", ["generator", "cli", "redis", ""])
def test_only_who_shares_its_work_in_a_group_has_replicas(name: str) -> None:
    with pytest.raises(Permanent, match="has no replicas: these have: archiver, audit, ingestor"):
        read_scale([f"{name}=2"])


def test_every_consumer_can_have_replicas() -> None:
    assert {"ingestor", "transformer", "validator", "archiver", "audit"} == CONSUMERS
    assert SERVICES.keys() >= CONSUMERS


def test_a_service_that_is_not_named_has_one_replica() -> None:
    assert replicas({"one": "m", "two": "m"}, {"two": 2}) == [("one", 1), ("two", 1), ("two", 2)]
