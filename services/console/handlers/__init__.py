"""The console's HTTP pages: thin, one module a question."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from services.console.handlers import batches, data, events, files, flow, ledger, live, quality, quarantine
from services.console.handlers.answers import Guarded, on_errors
from services.console.handlers.hosts import KnownHosts, names_of

__all__ = ["create_app"]


def create_app(hosts: str = "") -> FastAPI:
    """The application. `state.room` is set by the wiring.

    Args:
        hosts: names under which browsers find it, beside localhost and its address; with commas.
    """
    app = FastAPI(
        title="The console's data",
        version="1",
        description="What each page shows, as JSON, under /api.",
        docs_url=None,  # the pages load their scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.room = None
    for module in (flow, batches, quality, events, quarantine, ledger, data, live, files):
        app.include_router(module.router)
    on_errors(app)
    app.add_middleware(GZipMiddleware, minimum_size=512)
    app.add_middleware(KnownHosts, names=names_of(hosts))
    app.add_middleware(Guarded)
    return app
