"""Writes the OpenAPI documents, as the service has them, to openapi/. `make openapi` runs it."""

import json
from pathlib import Path

from app.main import FRONT_ENDS, openapi_document

DIRECTORY = Path(__file__).parent.parent / "openapi"


def documents() -> dict[Path, str]:
    """Each document's text by its place."""
    return {
        DIRECTORY / f"{slug}.json": json.dumps(openapi_document(front_end), indent=2, ensure_ascii=False) + "\n"
        for slug, front_end in FRONT_ENDS.items()
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
