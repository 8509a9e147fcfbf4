"""The native front end: Polytag's own API."""

from app.frontend import FrontEnd
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
    strict=True,
)
