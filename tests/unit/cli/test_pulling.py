"""What is said of an address to pull: headers, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from services.cli.commands.pulling import Headers, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), ("60", 60), ("60s", 60), ("1.5m", 90), ("2h", 7200)]
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_headers_come_from_the_line_the_environment_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "headers"
    file.write_text("# of the shop\nAuthorization: Bearer a:b=c\n\nX-One: file\n")
    monkeypatch.setenv("SHOP_KEY", "k=1")
    given = Headers(["Accept=application/json", "X-One=line"], ["X-Key=SHOP_KEY"], file)
    assert given.read() == {
        "Authorization": "Bearer a:b=c",
        "X-One": "line",
        "X-Key": "k=1",
        "Accept": "application/json",
    }


def test_a_line_that_is_no_header_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("X-One: 1\ns3cret\n")
    with pytest.raises(typer.BadParameter, match=r"line 2 of .*headers") as caught:
        Headers([], [], file).read()
    assert "s3cret" not in str(caught.value)
