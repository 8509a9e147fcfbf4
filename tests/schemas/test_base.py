"""The types of the wire: what they take, what they make of it, and what they say of themselves."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import MISSING, BaseModel, TypeAdapter, ValidationError

from app import values
from app.schemas.base import (
    JSON_OBJECT_MAX_DEPTH,
    OBJECT_MEMBERS_MAX,
    SLUG_PATTERN,
    Color,
    Description,
    Email,
    ExternalId,
    Flag,
    Input,
    Instant,
    JsonObject,
    Output,
    PersonName,
    SecondaryId,
    Slug,
    TagName,
    Text,
    Timestamp,
)


def error_of(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    [error] = caught.value.errors()
    return error["type"]


def schema_of(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (Text, "", ""),
        (Text, "a\nb", "a\nb"),
        (TagName, "  VIP\t", "VIP"),
        (TagName, "e\u0301", "é"),
        (TagName, " " * 200 + "a" * 120, "a" * 120),
        (TagName, "e\u0301" * 120, "é" * 120),
        (Slug, "spring-sale_2", "spring-sale_2"),
        (Color, "#1aF", "#11aaFF"),
        (Color, "#abCDEF", "#abCDEF"),
        (Email, " Someone@Example.com ", "Someone@Example.com"),
        (Description, "", ""),
        (Description, "x" * 1_000, "x" * 1_000),
        (ExternalId, "x" * 255, "x" * 255),
        (PersonName, "", ""),
        (SecondaryId, 1, 1),
        (SecondaryId, 1_000_000_000, 1_000_000_000),
        (Flag, True, True),
        (JsonObject, {"a": [1, None, {"b": 1.5}]}, {"a": [1, None, {"b": 1.5}]}),
        (JsonObject, {"a": "\\u0000"}, {"a": "\\u0000"}),
        (JsonObject, {"a\\": "\\\\u0000"}, {"a\\": "\\\\u0000"}),
    ],
)
def test_taken(kind: Any, value: object, made: object) -> None:
    assert TypeAdapter(kind).validate_python(value) == made


@pytest.mark.parametrize("kind", [Text, TagName, Slug, Email, Description, ExternalId, PersonName])
@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_what_cannot_be_stored_is_no_text(kind: Any, character: str) -> None:
    code = error_of(kind, f"a{character}b@c")
    # The first three are what app/frontend.py calls invalid_characters.
    assert code in {"string_pattern_mismatch", "string_unicode", "invalid_characters"}


@pytest.mark.parametrize("kind", [Text, TagName, Slug, Color, Email, Description, ExternalId, PersonName])
@pytest.mark.parametrize("value", [1, None, True, [], {}, b"bytes\xff"])
def test_other_types_are_no_text(kind: Any, value: object) -> None:
    assert error_of(kind, value) in {"string_type", "string_unicode"}


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (TagName, "", "too_short"),
        (TagName, " \t ", "too_short"),
        (TagName, "a" * 121, "too_long"),
        (TagName, "a\nb", "invalid_characters"),
        (Slug, "", "too_short"),
        (Slug, "Spring", "invalid_value"),
        (Slug, "a--b", "invalid_value"),
        (Slug, "-a", "invalid_value"),
        (Slug, "a" * 121, "too_long"),
        (Color, "red", "invalid_value"),
        (Color, "#12", "invalid_value"),
        (Color, "#12345g", "invalid_value"),
        (Color, "#1122334", "too_long"),
        (Email, "a", "invalid_value"),
        (Email, "a@", "invalid_value"),
        (Email, "a@b@c", "invalid_value"),
        (Email, "a b@c", "invalid_value"),
        (Email, "a@" + "b" * 320, "too_long"),
        (Description, "x" * 1_001, "string_too_long"),
        (ExternalId, "", "string_too_short"),
        (ExternalId, "x" * 256, "string_too_long"),
        (PersonName, "x" * 256, "string_too_long"),
        (SecondaryId, 0, "greater_than_equal"),
        (SecondaryId, 1_000_000_001, "less_than_equal"),
        (SecondaryId, "1", "int_type"),
        (SecondaryId, 1.0, "int_type"),
        (SecondaryId, True, "int_type"),
        (Flag, 1, "bool_type"),
        (Flag, "true", "bool_type"),
        (JsonObject, [], "dict_type"),
        (JsonObject, None, "dict_type"),
        (JsonObject, {"a": "\0"}, "invalid_characters"),
        (JsonObject, {"\0": 1}, "invalid_characters"),
        (JsonObject, {"a": ["\\\\\0"]}, "invalid_characters"),
        (JsonObject, {"a": {"\ud800": 1}}, "invalid_characters"),
        (JsonObject, {"a": "x" * values.ATTRIBUTES_MAX_BYTES}, "too_large"),
        (JsonObject, {"a": "é" * (values.ATTRIBUTES_MAX_BYTES // 2)}, "too_large"),
        (JsonObject, {str(index): index for index in range(300_000)}, "too_large"),
    ],
)
def test_refused(kind: Any, value: object, code: str) -> None:
    assert error_of(kind, value) == code


def test_free_json_has_a_size_and_a_depth() -> None:
    takes = TypeAdapter(JsonObject).validate_python
    longest = "x" * (values.ATTRIBUTES_MAX_BYTES - len('{"a":""}'))
    assert takes({"a": longest})
    assert error_of(JsonObject, {"a": longest + "x"}) == "too_large"


def test_free_json_may_be_as_deep_as_that() -> None:
    deepest: dict[str, object] = {}
    for _ in range(JSON_OBJECT_MAX_DEPTH - 1):
        deepest = {"a": deepest}
    assert TypeAdapter(JsonObject).validate_python(deepest) == deepest
    assert error_of(JsonObject, {"a": deepest}) == "too_deep"


@given(st.text("az09_-", max_size=8))
def test_the_pattern_of_slugs_is_their_rule(text: str) -> None:
    assert (re.search(SLUG_PATTERN, text) is not None) is (text != "" and values.slugify(text) == text)


@given(st.dictionaries(st.text(), st.text()))
def test_free_json_refuses_nul_and_nothing_like_it(value: dict[str, str]) -> None:
    has_nul = any("\0" in text for pair in value.items() for text in pair)
    if has_nul:
        assert error_of(JsonObject, value) == "invalid_characters"
    else:
        assert TypeAdapter(JsonObject).validate_python(value) == value


@given(st.text(max_size=130))
def test_a_name_that_is_taken_can_be_sent_again(text: str) -> None:
    takes = TypeAdapter(TagName).validate_python
    try:
        name = takes(text)
    except ValidationError:
        return
    assert takes(name) == name
    assert len(name) <= values.NAME_MAX_LENGTH


class Thing(Input):
    name: TagName | MISSING = MISSING
    description: Description | MISSING | None = MISSING


class Nested(Input):
    things: list[Thing]


def test_absent_is_not_null() -> None:
    assert Thing.model_validate({}).model_dump() == {}
    assert Thing.model_validate({"description": None}).model_dump() == {"description": None}
    assert Thing.model_validate({"name": "a"}).model_dump() == {"name": "a"}
    with pytest.raises(ValidationError):
        Thing.model_validate({"name": None})
    properties = Thing.model_json_schema()["properties"]
    assert properties["name"]["maxLength"] == values.NAME_MAX_LENGTH
    assert "anyOf" not in properties["name"]
    assert "required" not in Thing.model_json_schema()


def test_an_error_in_a_field_that_may_be_absent_has_the_fields_place() -> None:
    with pytest.raises(ValidationError) as caught:
        Thing.model_validate({"name": 1, "description": 2})
    assert [error["loc"] for error in caught.value.errors()] == [("name",), ("description",)]


def test_unknown_fields() -> None:
    with pytest.raises(ValidationError) as caught:
        Thing.model_validate({"nmae": "a"})
    assert [error["type"] for error in caught.value.errors()] == ["extra_forbidden"]


@pytest.mark.parametrize("model", [Thing, Nested])
def test_an_object_with_many_members_is_one_error(model: type[BaseModel]) -> None:
    many = {str(index): index for index in range(OBJECT_MEMBERS_MAX + 1)}
    with pytest.raises(ValidationError) as caught:
        model.model_validate(many if model is Thing else {"things": [many]})
    [error] = caught.value.errors()
    assert error["type"] == "too_many_fields"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-29T18:00:00Z", datetime(2026, 3, 29, 18, tzinfo=UTC)),
        ("2026-03-29T18:00:00.250+02:00", datetime(2026, 3, 29, 18, 0, 0, 250_000, timezone(timedelta(hours=2)))),
        ("2026-03-29 18:00:00z", datetime(2026, 3, 29, 18, tzinfo=UTC)),
    ],
)
def test_times_that_come_in(text: str, expected: datetime) -> None:
    assert TypeAdapter(Instant).validate_python(text) == expected


@pytest.mark.parametrize(
    "value", ["2026-03-29", "2026-03-29T18:00:00", "1774807200", 1774807200, "now", "", None, "2026-13-29T18:00:00Z"]
)
def test_times_that_do_not(value: object) -> None:
    assert error_of(Instant, value) in {"invalid_value", "datetime_from_date_parsing", "datetime_parsing"}


class Shown(Output):
    name: str
    created_at: Timestamp


def test_what_goes_out_is_read_from_attributes_and_in_utc() -> None:
    class Row:
        name = "a"
        created_at = datetime(2026, 3, 29, 18, 0, 0, 1, UTC)

    shown = json.loads(Shown.model_validate(Row()).model_dump_json())
    assert shown == {"name": "a", "created_at": "2026-03-29T18:00:00.000001Z"}
    assert sorted(Shown.model_json_schema()["required"]) == ["created_at", "name"]


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        (TagName, {"minLength": 1, "maxLength": values.NAME_MAX_LENGTH}),
        (Slug, {"minLength": 1, "maxLength": values.SLUG_MAX_LENGTH}),
        (Color, {"pattern": values.COLOR_PATTERN}),
        (Email, {"format": "email", "maxLength": values.EMAIL_MAX_LENGTH}),
        (Description, {"maxLength": values.DESCRIPTION_MAX_LENGTH}),
        (ExternalId, {"minLength": 1, "maxLength": values.EXTERNAL_ID_MAX_LENGTH}),
        (PersonName, {"maxLength": values.PERSON_NAME_MAX_LENGTH}),
        (SecondaryId, {"minimum": 1, "maximum": values.SECONDARY_ID_MAX}),
        (JsonObject, {"type": "object"}),
        (Instant, {"type": "string", "format": "date-time"}),
        (Annotated[Text, "anything"], {"type": "string"}),
    ],
)
def test_limits_stand_in_the_schema(kind: Any, limits: dict[str, object]) -> None:
    assert limits.items() <= schema_of(kind).items()
