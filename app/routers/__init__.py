"""The native front end: Polytag's own API."""

from app.frontend import About, FrontEnd
from app.routers import (
    audiences,
    contact_search,
    contact_tags,
    contacts,
    events,
    health,
    keys,
    me,
    metrics,
    tag_contacts,
    tags,
)
from app.routers.problems import read_token, render_error
from app.schemas.problems import Problem

_ABOUT = """\
The tags of contacts: exact under concurrency, fast.

Send a key in every call: `Authorization: Bearer ptag_…`. Tags belong to audiences; `audience=<slug>` names one, and
without it the key's default audience is in force. Errors are problem documents (RFC 9457) with a stable `code`. A field
or a query parameter that a call does not know is an error."""

NATIVE = FrontEnd(
    slug="native",
    title="Polytag",
    mount="",
    routers=(
        tags.router,
        tag_contacts.router,
        contact_tags.router,
        contact_search.router,
        contacts.router,
        audiences.router,
        events.router,
        keys.router,
        me.router,
        health.router,
        metrics.router,
    ),
    read_token=read_token,
    render_error=render_error,
    strict_query=True,
    about=About(
        _ABOUT,
        security_schemes={
            "bearerAuth": {"type": "http", "scheme": "bearer", "description": "An API key, which begins with `ptag_`."}
        },
        error_schema=Problem,
    ),
)
