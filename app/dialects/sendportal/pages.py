"""Pages by number, and the links that lead from one to another, as Laravel makes them.

Links are absolute. Behind a proxy they begin with the public URL; without one with the host that was called. They
repeat `per_page`, so that following them keeps the size, and nothing else of the query: a key may stand there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Query, Request
from pydantic import WithJsonSchema

from app.dialects.sendportal.checks import integer
from app.dialects.sendportal.schemas import Links, Meta, PageLink
from app.frontend import origin_of
from app.pagination import PageRequest

PER_PAGE_DEFAULT = 25
# What the vendor answers to `per_page=0` and `per_page=`.
PER_PAGE_OF_NONE = 15
PER_PAGE_MAX = 1_000
# The longest list that is answered whole.
WHOLE_MAX = 1_000

# No list is so long, and no number beyond this could be asked of the database.
_OFFSET_MAX = 10**12

# How many page numbers there are on either side of the current one, where not all are shown.
_ON_EACH_SIDE = 3

_SIZE = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": PER_PAGE_MAX, "examples": [100]})

PageParam = Annotated[
    str | None,
    Query(description="The number of the page, from 1. What is none means 1."),
    WithJsonSchema({"type": "integer", "minimum": 1, "examples": [1]}),
]
PerPageParam = Annotated[
    str | None,
    Query(
        description=f"The most items that a page has, {PER_PAGE_DEFAULT} if left out. What is beyond "
        f"{PER_PAGE_MAX:,} means {PER_PAGE_MAX:,}, and 0 means {PER_PAGE_OF_NONE}."
    ),
    _SIZE,
]

LongPerPageParam = Annotated[
    str | None,
    Query(
        description=f"The most items that a page has, {WHOLE_MAX:,} if left out. Without this and `page`, a list of "
        f"up to {WHOLE_MAX:,} is answered whole. What is beyond {PER_PAGE_MAX:,} means {PER_PAGE_MAX:,}."
    ),
    _SIZE,
]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page is wanted, and whether links have to say how long pages are."""

    page: int
    per_page: int
    says_per_page: bool = True

    def request(self) -> PageRequest:
        """The same as the repositories have it."""
        return PageRequest(self.per_page, min((self.page - 1) * self.per_page, _OFFSET_MAX))


async def _paging(page: PageParam = None, per_page: PerPageParam = None) -> Paging:
    return Paging(_page(page), _per_page(per_page), says_per_page=per_page is not None)


async def _page_of_subscribers(page: PageParam = None) -> Paging:
    return Paging(_page(page), PER_PAGE_DEFAULT, says_per_page=False)


async def _optional_paging(page: PageParam = None, per_page: LongPerPageParam = None) -> Paging | None:
    if page is None and per_page is None:
        return None
    if per_page is None:
        # Clients that count on from the whole list's `last_page` go on in pages of its length.
        return Paging(_page(page), WHOLE_MAX, says_per_page=False)
    return await _paging(page, per_page)


PagingDep = Annotated[Paging, Depends(_paging)]
# The list of subscribers has pages of one length.
FixedPagingDep = Annotated[Paging, Depends(_page_of_subscribers)]
OptionalPagingDep = Annotated[Paging | None, Depends(_optional_paging)]


def _page(text: str | None) -> int:
    number = integer(text)
    return number if number is not None and number >= 1 else 1


def _per_page(text: str | None) -> int:
    if text is None:
        return PER_PAGE_DEFAULT
    number = integer(text)
    if number == 0 or not text.strip():
        return PER_PAGE_OF_NONE
    return min(number, PER_PAGE_MAX) if number is not None and number > 0 else PER_PAGE_DEFAULT


def page_fields(request: Request, paging: Paging, shown: int, total: int) -> dict[str, Any]:
    """`links` and `meta` of a page that shows so many items of a list."""
    path = origin_of(request) + quote(request.scope["path"])
    size = f"per_page={paging.per_page}&" if paging.says_per_page else ""
    current, last = paging.page, max(ceil(total / paging.per_page), 1)

    def url(page: int) -> str:
        return f"{path}?{size}page={page}"

    before = url(current - 1) if current > 1 else None
    after = url(current + 1) if current < last else None
    numbers = [
        PageLink(url=None, label="...", active=False)
        if number is None
        else PageLink(url=url(number), label=str(number), active=number == current)
        for number in _numbers(current, last)
    ]
    start = (current - 1) * paging.per_page
    return {
        "links": Links(first=url(1), last=url(last), prev=before, next=after),
        "meta": Meta(
            current_page=current,
            from_=start + 1 if shown else None,
            last_page=last,
            links=[
                PageLink(url=before, label="&laquo; Previous", active=False),
                *numbers,
                PageLink(url=after, label="Next &raquo;", active=False),
            ],
            path=path,
            per_page=paging.per_page,
            to=start + shown if shown else None,
            total=total,
        ),
    }


def _numbers(current: int, last: int) -> Sequence[int | None]:
    """The pages that a row of numbers shows: all of up to 13, else the ends and what is around the current one."""
    side = _ON_EACH_SIDE
    if last < side * 2 + 8:
        return range(1, last + 1)
    window = side + 4
    if current <= window:
        return [*range(1, window + side + 1), None, last - 1, last]
    if current > last - window:
        return [1, 2, None, *range(last - (window + side - 1), last + 1)]
    return [1, 2, None, *range(current - side, current + side + 1), None, last - 1, last]
