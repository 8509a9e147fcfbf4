"""What the service counts and times, for Prometheus."""

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response

from app import metrics
from app.frontend import new_router, public

router = new_router("metrics")


# Not a coroutine: what several workers have counted takes a while to add up, and others need not wait for it.
@router.get("/metrics", response_class=PlainTextResponse)
@public
def get_metrics(request: Request) -> Response:
    """Counts and times in Prometheus's text format, or in OpenMetrics where that is accepted. Of all workers."""
    headers = request.headers
    text, described = metrics.expose(headers.get("accept", ""), headers.get("accept-encoding", ""))
    return Response(text, headers=described)
