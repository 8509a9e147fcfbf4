"""The native front end: Polytag's own API."""

from app.frontend import FrontEnd
from app.routers import audiences, contact_tags, contacts, health, me, metrics, tag_contacts, tags
from app.routers.problems import read_token, render_error

NATIVE = FrontEnd(
    slug="native",
    title="Polytag",
    mount="",
    routers=(
        tags.router,
        tag_contacts.router,
        contact_tags.router,
        contacts.router,
        audiences.router,
        me.router,
        health.router,
        metrics.router,
    ),
    read_token=read_token,
    render_error=render_error,
    strict_query=True,
)
