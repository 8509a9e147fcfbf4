"""The part of every list's answer that says where in the list it stands."""

from typing import Annotated

from pydantic import Field

from app.pagination import CURSOR_EXAMPLE, Page
from app.schemas.base import Output
from app.schemas.fields import Count


class Pagination(Output):
    """Where in the list this page stands."""

    total: Annotated[
        Count | None, Field(description="Items in the whole list. null: they were not counted.", examples=[1204])
    ]
    limit: Annotated[int, Field(description="The most items that were wanted.", examples=[100])]
    offset: Annotated[
        Count | None, Field(description="Items left out before this page. null: it began at a cursor.", examples=[0])
    ]
    has_more: Annotated[bool, Field(description="Whether there are items behind this page.", examples=[True])]
    next_cursor: Annotated[
        str | None,
        Field(
            description="Leads to the next page as `cursor`. Not to be read or made up. null: this is the end.",
            examples=[CURSOR_EXAMPLE],
        ),
    ]

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


PagePosition = Annotated[Pagination, Field(description="Where in the list this page stands, and what leads on.")]
