"""/static: the files that pages name, by the start of their hash, so that browsers may keep them for good."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.console.drawing import static_files

__all__ = ["router"]

router = APIRouter()

_FOR_GOOD: Final = "public, max-age=31536000, immutable"


@router.get("/static/{version}/{path:path}", include_in_schema=False)
async def static(version: str, path: str) -> Response:
    file = static_files().get(path)
    if file is None or file.version != version:
        raise HTTPException(404)
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": _FOR_GOOD})


@router.get("/favicon.ico", include_in_schema=False)
async def icon() -> Response:
    file = static_files()["icon.svg"]
    return Response(file.content, media_type=file.media_type)
