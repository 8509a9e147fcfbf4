"""The rules of names, slugs, colors, emails and keys, by example and by property."""

import hashlib
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values import (
    NAME_MAX_LENGTH,
    SLUG_MAX_LENGTH,
    fold,
    has_control_characters,
    hash_key,
    is_key,
    new_id,
    new_key,
    normalize_color,
    normalize_email,
    normalize_name,
    numbered_slug,
    shown_prefix,
    slug_for_name,
    slugify,
)

# Any text at all, with half surrogate pairs and NUL, and much of it beyond ASCII.
anything = st.text(st.characters(codec=None, categories=None))
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=150)
SLUG = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("VIP", "vip"),
        (" VIP\u00a0", "vip"),
        ("Café", "CAFE\u0301"),
        ("Straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("\u212b", "å"),
        ("ﬃ", "FFI"),
        ("A\u0328\u0301", "ą\u0301"),
        ("\u1fb3\u0301", "\u1fb4"),
    ],
)
def test_texts_that_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("C", "C++"), ("C#", "C++"), ("a", "á"), ("a b", "a  b"), ("i", "\u0131")])
def test_texts_that_fold_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(names)
def test_normal_forms_fold_alike(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text)) == fold(f" {text}\t")


@given(anything)
def test_a_name_is_as_the_rule_says_or_refused(text: str) -> None:
    try:
        name = normalize_name(text)
    except ValueError:
        return
    assert name == unicodedata.normalize("NFC", name) == name.strip()
    assert 1 <= len(name) <= NAME_MAX_LENGTH
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)
    assert normalize_name(name) == name
    assert fold(name) == fold(text)


@pytest.mark.parametrize(
    "text", ["", " ", "\u2003", "x" * 121, "a\x00", "a\nb", "a\x1bb", "a\x9fb", "\ud800", "a\udfffb"]
)
def test_names_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        normalize_name(text)


@pytest.mark.parametrize("text", ["a\x00", "\n", "\x7f", "\x85", "\ud800", "a\udfff"])
def test_control_characters(text: str) -> None:
    assert has_control_characters(text)


@pytest.mark.parametrize("text", ["", "é", "🎉", "\u200b", "\u2028", "\ufeff", "👩‍👩‍👧"])
def test_what_is_no_control_character(text: str) -> None:
    assert not has_control_characters(text)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Café Größe", "cafe-groe"),
        ("C++", "c"),
        ("C#", "c"),
        ("foo.bar", "foobar"),
        ("a/b", "ab"),
        ("\uff36\uff29\uff30", "vip"),
        ("oﬃce", "office"),
        ("a--b", "a-b"),
        ("a - b", "a-b"),
        ("a__b", "a__b"),
        ("a_-_b", "a_-_b"),
        ("_-a-_", "a"),
        ("\tA\nB ", "a-b"),
        ("🚀 launch", "launch"),
        ("½ price", "12-price"),
        ("日本語", ""),
        ("!!!", ""),
        ("\u200b", ""),
        ("---", ""),
        ("", ""),
        ("x" * 200, "x" * 120),
        ("x" * 119 + " y", "x" * 119),
    ],
)
def test_slugify(text: str, slug: str) -> None:
    assert slugify(text) == slug


@given(anything)
def test_a_slug_is_one_already(text: str) -> None:
    slug = slugify(text)
    assert slugify(slug) == slug
    assert not slug or SLUG.fullmatch(slug)
    assert "--" not in slug
    assert len(slug) <= SLUG_MAX_LENGTH


@given(names)
def test_every_name_has_a_slug_and_always_the_same(text: str) -> None:
    slug = slug_for_name(text)
    assert slug == slugify(slug)
    assert slug
    assert slug_for_name(text) == slug


@pytest.mark.parametrize(
    ("name", "slug"), [("VIP Gold", "vip-gold"), ("日本語", "ri-ben-yu"), ("Привет", "privet"), ("Ελλάδα", "ellada")]
)
def test_slugs_of_names(name: str, slug: str) -> None:
    assert slug_for_name(name) == slug


@pytest.mark.parametrize("name", ["🎉", "!!!", "+", "\u200b", "𝄞"])
def test_slugs_of_names_without_letters(name: str) -> None:
    assert slug_for_name(name) == "tag-" + hashlib.sha256(fold(name).encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("slug", "number", "numbered"),
    [
        ("vip", 1, "vip"),
        ("vip", 2, "vip-2"),
        ("vip", 10, "vip-10"),
        ("x" * 120, 1, "x" * 120),
        ("x" * 120, 2, "x" * 118 + "-2"),
        ("x" * 120, 1000, "x" * 115 + "-1000"),
        ("x" * 117 + "-yy", 2, "x" * 117 + "-2"),
    ],
)
def test_numbered_slugs(slug: str, number: int, numbered: str) -> None:
    assert numbered_slug(slug, number) == numbered
    assert slugify(numbered) == numbered


@given(names, st.integers(1, 10**9))
def test_a_numbered_slug_is_a_slug(name: str, number: int) -> None:
    slug = numbered_slug(slug_for_name(name), number)
    assert slugify(slug) == slug
    assert len(slug) <= SLUG_MAX_LENGTH


@given(names)
def test_numbered_slugs_differ(name: str) -> None:
    slug = slug_for_name(name)
    assert len({numbered_slug(slug, number) for number in range(1, 120)}) == 119


@pytest.mark.parametrize(("sent", "stored"), [("#fff", "#ffffff"), ("#1aF", "#11aaFF"), ("#A1b2C3", "#A1b2C3")])
def test_colors(sent: str, stored: str) -> None:
    assert normalize_color(sent) == stored == normalize_color(stored)


@pytest.mark.parametrize("color", ["", "red", "fff", "#ff", "#ffff", "#ggg", "#fff\n", " #fff", "#fffffff", "#١٢٣"])
def test_colors_that_are_refused(color: str) -> None:
    with pytest.raises(ValueError, match="color"):
        normalize_color(color)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("a@b", "a@b"),
        (" Ada@Example.com\n", "Ada@Example.com"),
        ("Jose\u0301@example.com", "José@example.com"),
        ("x" * 308 + "@example.com", "x" * 308 + "@example.com"),
        ("用户@例子.广告", "用户@例子.广告"),
        ("o'neil+tag=1@[127.0.0.1]", "o'neil+tag=1@[127.0.0.1]"),
    ],
)
def test_emails(sent: str, stored: str) -> None:
    assert normalize_email(sent) == stored


@pytest.mark.parametrize(
    "email",
    ["", "@", "a@", "@b", "a", "a@b@c", "a b@c", "a@b c", "a\u00a0b@c", "a\x00@b", "\ud800@b", "x" * 319 + "@b"],
)
def test_emails_that_are_refused(email: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        normalize_email(email)


def test_ids_are_of_version_7_and_in_order() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert {one.version for one in ids} == {7}
    assert ids == sorted(set(ids))


def test_keys() -> None:
    keys = {new_key() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(r"ptag_[0-9A-Za-z]{38}", key)
        assert is_key(key)
        assert key.startswith(shown_prefix(key))
        assert len(shown_prefix(key)) <= 12
    assert len({hash_key(key) for key in keys}) == 200


def test_a_key_with_one_wrong_character_is_none() -> None:
    key = new_key()
    for place, character in enumerate(key):
        for other in "0aZ!":
            if other != character:
                assert not is_key(key[:place] + other + key[place + 1 :])
    # Two neighbours in the wrong order.
    for place in range(len("ptag_"), len(key) - 1):
        turned = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
        assert turned == key or not is_key(turned)


@given(anything)
def test_what_is_no_key(text: str) -> None:
    assert not is_key(text)
    assert not is_key("ptag_" + text)


@pytest.mark.parametrize("change", ["{} ", " {}", "{}\n", "{}a", "PTAG{}", "{}\x00"])
def test_a_key_and_something_beside_it(change: str) -> None:
    assert not is_key(change.format(new_key()))
