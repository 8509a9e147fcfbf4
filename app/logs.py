"""The log: one event a line, with the request it belongs to, and without what must not be in a log.

Local variables of a traceback are never rendered, since they hold keys and people's data; whatever still looks like
an API key is masked in the finished line. Query strings are nowhere logged: they hold search terms and, for some
dialects, keys.
"""

import logging
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["auto", "json", "console"]

_KEY = re.compile(r"ptag_[0-9A-Za-z]{5,}")
_FRAMES_MAX = 30
_ECHO_MAX_LENGTH = 200
# Messages of errors may quote what was being handled, a whole answer even.
_ERROR_TEXT_MAX = 500


def mask_keys(text: str) -> str:
    """The text without API keys."""
    return _KEY.sub("ptag_…", text) if "ptag_" in text else text


def shown(text: str) -> str:
    """A caller's text in the form in which it may be said back: short, without keys, and fit for UTF-8."""
    text = text if len(text) <= _ECHO_MAX_LENGTH else text[:_ECHO_MAX_LENGTH] + "…"
    return mask_keys(text).encode("utf-8", "replace").decode()


def configure(level: str, log_format: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's loggers to one place (standard error) in one form."""
    output = stream or sys.stderr
    on_terminal = output.isatty()
    render = _json() if log_format == "json" or (log_format == "auto" and not on_terminal) else _console(on_terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]

    def make_logger(name: str | None = None) -> structlog.WriteLogger:
        logger = structlog.WriteLogger(output)
        logger.name = name  # type: ignore[attr-defined]  # where add_logger_name looks for it
        return logger

    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=make_logger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        # uvicorn brings handlers of its own.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # It writes query strings; the line of app.middleware takes its place.
    logging.getLogger("uvicorn.access").disabled = True


def _json() -> Sequence[Processor]:
    return (
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=_FRAMES_MAX)),
        _shorten_errors,
        structlog.processors.JSONRenderer(),
        _mask,
    )


def _console(colors: bool) -> Sequence[Processor]:
    return (
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
        _mask,
    )


def _shorten_errors(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    _shorten(event.get("exception") or ())
    return event


def _shorten(errors: Iterable[dict[str, Any]]) -> None:
    for error in errors:
        error["exc_value"] = error["exc_value"][:_ERROR_TEXT_MAX]
        for inner in error["exceptions"]:
            _shorten(inner)


def _mask(_logger: WrappedLogger, _method: str, line: Any) -> str:  # noqa: ANN401
    # The processor before it has made a text of the event.
    return mask_keys(line)
