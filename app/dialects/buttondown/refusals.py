"""What is refused with a code of the vendor's: 400, with `metadata` for what a client needs to get on."""

from typing import cast

from app.dialects.buttondown.typeids import Ids
from app.errors import Conflict, ConflictCode, Duplicate

COLLISION_HEADER = "X-Buttondown-Collision-Behavior"

# Rules of names, as the schemas raise them. They are told by a code, all other faults of a body by its fields.
NAME_CODES = frozenset({"name_blank", "name_too_long", "name_invalid"})


def refusal(code: str, detail: str, **metadata: str) -> Conflict:
    """A refusal in the vendor's words."""
    # The codes of the core are a closed list; those of a vendor stand in its guide.
    return Conflict(cast("ConflictCode", code), detail, **metadata)


def taken(error: Duplicate, ids: Ids, *, creates: bool) -> Conflict:
    """What a value that is taken is to the vendor; who creates is also told who has it, and what helps.

    Who has an address is not told to a PATCH: it may be somebody whom this newsletter does not know.
    """
    existing = error.existing_id
    if error.resource == "contact":
        metadata = {}
        if creates and existing:
            metadata = {"subscriber_id": ids.show("sub", existing), "remedy_header": f"{COLLISION_HEADER}: add"}
        return refusal("email_already_exists", "Another subscriber has this email address.", **metadata)
    metadata = {"tag_id": ids.show("sub_tag", existing)} if existing else {}
    if creates:
        metadata["remedy_header"] = f"{COLLISION_HEADER}: overwrite"
    if error.field == "name":
        return refusal("name_already_exists", "Another tag has this name.", **metadata)
    return refusal(f"{error.field}_already_exists", f"Another tag has this {error.field}.", **metadata)
