"""What schemathesis is told beside the documents: what must not be done, and refusals that no schema can foretell."""

import os
import re
from itertools import count
from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

_FRONT_END = os.environ["FUZZ_FRONT_END"]
_OWN_KEY_ID = os.environ["FUZZ_KEY_ID"]
_OWN_AUDIENCE = os.environ["FUZZ_AUDIENCE"]
_OWN_CLIENT = os.environ["FUZZ_CLIENT"]
_OWN = {"audience": _OWN_AUDIENCE, "client": _OWN_CLIENT}
_MADE_UP_ONE_IN = 8
_calls = count(1)

# Why a request that fits its schema may be refused, in the words of each front end. A refusal for any other reason
# means that the document promises more than the service takes.
_NO_SCHEMA_SAYS = {
    "native": [
        # What exists, whose it is, and how it is now.
        r'"code":"(unknown_(ids|tag|audience|client)|not_members|other_audience|audience_required|precondition_failed)"',
        # What came before.
        r'"code":"(invalid_cursor|idempotency_key_reused)"|must lie in the future',
        # Fields that need or exclude one another.
        r'"code":"(not_together|overlap)"|One of [\w, ]+ is required|A reason goes with|A filter has at least one',
        # A header that is several values, and JSON of any form.
        r"If-Match must be what an ETag header said|must not contain NUL",
        # Text that is left with nothing when it becomes a slug.
        r'"code":"invalid_slug"',
        # 2.0 is an integer to JSON Schema. Not to us, since clients that send it have lost digits of large ones.
        r"must be a whole number",
    ],
    "topmail": [
        r"must not contain NUL|cursor is damaged|idempotency key belongs to another request|must be a whole number",
    ],
    "buttondown": [
        r'"code":"(\w+_already_exists|invalid_tag|tag_invalid|subscriber_\w+|bulk_action_\w+|metadata_invalid)"',
        r"must not contain NUL|cursor is damaged|idempotency key belongs to another request|must be a whole number",
    ],
    "sendportal": [
        r"does not exist|must be unique|The validation error message|has already been taken",
        # What DELETE takes may stand in the query or in the body, and a query that was made up is no list.
        r"The (tags|subscribers) field (is required|must be an array)",
        # Of text that is a time, a client sends one of the forms that the description names.
        r"The unsubscribed at field must be a valid date",
        r"must not contain NUL|idempotency key belongs to another request|must be a whole number",
    ],
    "datamailer": [
        # Its schemas have the types; the rest is its handlers' affair, and blank text is none.
        r'"(\w+)":"(required|not_found|invalid|must_be_non_empty_strings)"',
        r"must not contain NUL|idempotency key belongs to another request",
    ],
}[_FRONT_END]

# Where a vendor takes more than it says, and so do we; what is described is what a client should send.
_TAKEN_ALL_THE_SAME = {
    "sendportal": [
        # What is no page is the first one.
        r"`(page|per_page)` in query",
        # PHP makes text of numbers, and lists of objects.
        r"in body - .*(Incorrect type|violates `type`)",
    ],
    "datamailer": [
        # null is as good as left out.
        r"in body - (suppression|email_validation): Incorrect type",
        # Where there is a body, what the query says of them is passed over.
        r"parameters? `(audience|client)`.* in query",
    ],
}.get(_FRONT_END, [])


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Keep the run from ending its own key or audience, and from being refused for one and the same reason for ever."""
    # Everything else would be answered 401 from then on, and look well.
    if case.path_parameters.get("key_id") == _OWN_KEY_ID:
        case.path_parameters["key_id"] = str(uuid4())
    if case.method == "DELETE" and case.path_parameters.get("slug") == _OWN_AUDIENCE:
        case.path_parameters["slug"] = "nobodys"
    number = next(_calls)
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    for name in case.headers:
        # The document has one example for all calls, and what was made up repeats. A repeat is answered as the first
        # was, whatever has become of what that made; tests/test_idempotency.py looks at those.
        if name.lower().endswith("idempotency-key"):
            case.headers[name] = f"fuzz-{number}"
    if number % _MADE_UP_ONE_IN == 0:
        return
    # An audience that was made up is nowhere, so that nothing else would be looked at.
    for place in (case.query, case.body):
        if isinstance(place, dict):
            place.update({name: own for name, own in _OWN.items() if isinstance(place.get(name), str)})


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether it is one. What fits its schema may be refused where no schema could have said why."""
    if isinstance(failure, RejectedPositiveData):
        return not any(re.search(reason, response.text) for reason in _NO_SCHEMA_SAYS)
    if isinstance(failure, UseAfterFree):
        # DELETE of a list takes out what the call names. The list stays, and is answered.
        return not failure.free.endswith(("/contacts", "/tags", "/subscribers"))
    if isinstance(failure, AcceptedNegativeData):
        # `null` in place of a body that may be left out is as good as none.
        return case.body is not None and not any(re.search(how, failure.message) for how in _TAKEN_ALL_THE_SAME)
    return True
