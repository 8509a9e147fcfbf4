"""The part of every list's answer that says where in the list it stands."""

from pydantic import Field

from app.pagination import Page
from app.schemas.base import Output


class Pagination(Output):
    """Where in the list this page stands."""

    total: int | None = Field(description="Items in the whole list; null where it was not asked for.")
    limit: int = Field(description="The most items that were wanted.")
    offset: int | None = Field(description="Items left out before this page; null after a cursor.")
    has_more: bool = Field(description="Whether there are items behind this page.")
    next_cursor: str | None = Field(description="Leads to the next page as `cursor`; null at the end of the list.")

    @classmethod
    def of(cls, page: Page[object]) -> "Pagination":
        """What a page says of itself."""
        return cls(
            total=page.total,
            limit=page.request.limit,
            offset=page.request.offset if page.request.cursor is None else None,
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )
