"""What the service counts and times, for Prometheus."""

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response

from app import metrics
from app.frontend import new_router, public

router = new_router("metrics", "Counts and times of the service, for Prometheus.")


# Not a coroutine: what several workers have counted takes a while to add up, and others need not wait for it.
@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    response_description="The counts and times.",
    responses={200: {"content": {"application/openmetrics-text": {"schema": {"type": "string"}}}}},
)
@public
def get_metrics(request: Request) -> Response:
    """Read counts and times of all workers. In Prometheus's text format, or in OpenMetrics where that is accepted."""
    headers = request.headers
    text, described = metrics.expose(headers.get("accept", ""), headers.get("accept-encoding", ""))
    return Response(text, headers=described)
