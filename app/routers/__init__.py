"""The native front end: Polytag's own API."""

from app.frontend import FrontEnd
from app.routers import health
from app.routers.problems import read_token, render_error

NATIVE = FrontEnd(
    slug="native",
    title="Polytag",
    mount="",
    routers=(health.router,),
    read_token=read_token,
    render_error=render_error,
    strict_query=True,
)
