import pytest

from server.lm.languages import LANGUAGES, PLAIN_TEXT, language_for, language_of_path


@pytest.mark.parametrize(
    ("language_id", "path", "expected"),
    [
        ("python", "a.py", "python"),
        ("python", "no suffix", "python"),
        ("Python", "", "python"),
        ("typescript", "a.ts", "typescript"),
        ("typescriptreact", "a.tsx", "typescriptreact"),
        ("tsx", "a.tsx", "typescriptreact"),
        ("javascript", "a.mjs", "javascript"),
        ("jsx", "", "javascriptreact"),
        ("c++", "", "cpp"),
        ("sh", "", "shellscript"),
        ("", "src/a.py", "python"),
        ("unheard-of", "src\\a.ts", "typescript"),  # the suffix helps where the id does not
        ("python", "a.ts", "python"),  # what the editor says wins
        ("unheard-of", "a.zz", "unheard-of"),
        ("", "", "plaintext"),
        ("", ".py", "plaintext"),  # a dot file has no suffix
    ],
)
def test_an_id_wins_over_the_suffix_and_an_unknown_one_is_plain_text(
    language_id: str, path: str, expected: str
) -> None:
    assert language_for(language_id, path).id == expected


def test_an_unknown_language_promises_nothing() -> None:
    unknown = language_for("unheard-of", "a.zz")
    assert (unknown.grammar, unknown.block, unknown.comment) == (None, None, "")


def test_no_name_or_suffix_stands_for_two_languages() -> None:
    names = [name for language in LANGUAGES for name in (language.id, *language.aliases)]
    suffixes = [suffix for language in LANGUAGES for suffix in language.suffixes]
    assert len(set(names)) == len(names)
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    assert PLAIN_TEXT in LANGUAGES


@pytest.mark.parametrize(
    ("path", "expected"), [("a/B.PY", "python"), ("x.d.ts", "typescript"), ("Makefile", None), ("", None)]
)
def test_language_of_path(path: str, expected: str | None) -> None:
    language = language_of_path(path)
    assert (language.id if language else None) == expected
