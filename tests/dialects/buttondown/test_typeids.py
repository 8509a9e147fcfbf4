"""TypeIDs: the worked example of the vendor's documents, every UUID there and back, and nothing else taken for one."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dialects.buttondown.typeids import Ids, Prefix, decode, encode
from tests.dialects.buttondown.calls import UNKNOWN, UNKNOWN_SUBSCRIBER, UNKNOWN_TAG

EXAMPLE = UUID("13121cd6-0dfc-424c-bb12-988b0a32fcb3")
EXAMPLE_TAG = "sub_tag_0k28edc3fw896bp4mrhc535z5k"
PREFIXES: list[Prefix] = ["sub_tag", "sub", "news", "bulk_action"]


def test_the_worked_example() -> None:
    assert encode("sub_tag", EXAMPLE) == EXAMPLE_TAG
    assert decode("sub_tag", EXAMPLE_TAG) == EXAMPLE


def test_the_ids_of_other_tests_are_one() -> None:
    assert decode("sub_tag", UNKNOWN_TAG) == decode("sub", UNKNOWN_SUBSCRIBER) == UUID(UNKNOWN)


@given(st.uuids(), st.sampled_from(PREFIXES))
def test_every_uuid_there_and_back(value: UUID, prefix: Prefix) -> None:
    text = encode(prefix, value)
    assert len(text) == len(prefix) + 27
    assert decode(prefix, text) == value
    assert decode(prefix, str(value)) == decode(prefix, str(value).upper()) == value
    assert decode(prefix, f"{prefix}_{value}") == value
    # As another kind of thing it is none.
    assert all(decode(other, text) is None for other in PREFIXES if other != prefix)


@given(st.uuids(), st.uuids())
def test_typeids_sort_as_uuids_do(one: UUID, other: UUID) -> None:
    assert (one < other) == (encode("sub", one) < encode("sub", other))


@given(st.text())
def test_what_is_taken_is_one_of_the_three_forms(text: str) -> None:
    value = decode("sub_tag", text)
    assert value is None or text.lower() in {str(value), f"sub_tag_{value}", encode("sub_tag", value)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sub_tag_",
        EXAMPLE_TAG.upper(),
        EXAMPLE_TAG[:-1],
        EXAMPLE_TAG + "0",
        EXAMPLE_TAG + "\n",
        # Beyond 128 bits.
        "sub_tag_8" + "0" * 25,
        # No characters of the alphabet.
        *(f"sub_tag_0k28edc3fw896bp4mrhc535z5{character}" for character in "iloué"),
        EXAMPLE_TAG.removeprefix("sub_tag_"),
        "tag_0k28edc3fw896bp4mrhc535z5k",
        str(EXAMPLE).replace("-", ""),
        f"{{{EXAMPLE}}}",
        f"urn:uuid:{EXAMPLE}",
        f"{EXAMPLE}\n",
        f"sub_tag_sub_tag_{EXAMPLE}",
    ],
)
def test_what_is_no_id(text: str) -> None:
    assert decode("sub_tag", text) is None


def test_the_form_of_answers() -> None:
    assert Ids(as_uuids=False).show("sub_tag", EXAMPLE) == EXAMPLE_TAG
    assert Ids(as_uuids=True).show("sub_tag", EXAMPLE) == str(EXAMPLE)
