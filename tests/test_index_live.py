"""The index as it is now: open text before saved text, saved before built, and never the cursor's own line."""

from __future__ import annotations

import pytest
from fakes import FakeTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from server.index.at_hand import MAX_ABOVE, MAX_BELOW
from server.index.changed import CHANGED, MAX_FRESH, without_secrets
from server.index.live import DEPENDENCIES, REPOSITORY, THIS_FILE, LiveIndex
from server.index.lookup import Follower, Tier
from server.index.segment import Segment, SegmentFile
from server.lm.context import Document, context_at, unix_lines
from server.lm.healing import TokenIndex
from server.lm.languages import language_for
from server.lm.prompt import completion_prompt
from tests.marks import split_at_cursor
from tests.test_secrets import KEY_LINE, SECRETS

BYTES = FakeTokenizer([bytes([byte]) for byte in range(256)])
LINES = st.lists(st.sampled_from(["a", "b = 1", "", "é", "€ ", "\0", "\n", "\r\n", "\r"]), max_size=14).map("".join)


def document(text: str, path: str = "here.py") -> Document:
    return Document(f"file:///work/{path}", path, language_for("python"), text)


def built(**texts: str) -> dict[str, Segment]:
    """A repository tier; `a="..."` is the file a.py."""
    return {REPOSITORY: Segment.build([SegmentFile(f"{name}.py", text.encode()) for name, text in texts.items()])}


def tier(index: LiveIndex, text: str, offset: int, name: str = THIS_FILE) -> Tier:
    return next(tier for tier in index.tiers(document(text), offset) if tier.name == name)


def answers(index: LiveIndex, marked: str, path: str = "here.py") -> set[str]:
    """What stands behind the longest match of each tier, first lines only."""
    text, offset = split_at_cursor(marked)
    past = unix_lines(text[:offset]).encode()
    found = set()
    for tier in index.tiers(document(text, path), offset):
        for finding in Follower(tier).after(past)[:1]:
            if finding.n_bytes >= 4:
                found |= {ahead.decode().split("\n")[0] for ahead in finding.following}
    return found


def searched(index: LiveIndex, text: str, offset: int = 0, path: str = "here.py") -> str:
    """All text that may answer at a cursor, hidden files left out."""
    tiers = index.tiers(document(text, path), offset)
    return "\n".join(
        file.text.decode()
        for tier in tiers
        for number, file in enumerate(tier.segment.files())
        if number not in tier.hidden
    )


def test_what_was_written_in_one_open_document_answers_in_another_at_once() -> None:
    index = LiveIndex()
    index.change("other.py", "def total_of(rows):\n", is_open=True)
    assert answers(index, "x = total_<|>\n") == {"of(rows):"}
    index.change("other.py", "def total_by(key):\n", is_open=True)
    assert answers(index, "x = total_<|>\n") == {"by(key):"}


def test_lines_above_and_below_answer_but_not_the_cursor_s_own() -> None:
    index = LiveIndex()
    assert answers(index, "call_above(1)\ncall_<|>here(2)\ncall_below(3)\n") == {"above(1)", "below(3)"}
    assert answers(index, "call_<|>here(2)") == set()


@settings(max_examples=80)
@given(LINES, st.data())
def test_of_a_document_everything_is_searched_but_the_line_of_the_cursor(text: str, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(text)))
    found = tier(LiveIndex(), text, offset)
    inside_break = text[max(offset - 1, 0) : offset + 1] == "\r\n"
    number = unix_lines(text[: offset - inside_break]).count("\n")
    lines = unix_lines(text).split("\n")
    above, below = (file.text.decode() for file in found.segment.files())
    shown = [line.replace("\0", " ") for line in lines]
    assert above == "".join(line + "\n" for line in shown[:number])
    assert below == "\n".join(shown[number + 1 :])
    assert found.first_lines == (1, number + 2)


def test_of_a_long_document_whole_lines_near_the_cursor_are_searched_under_their_own_numbers() -> None:
    lines = [f"line_{number} = {number}\n" for number in range(20_000)]
    text = "".join(lines)
    offset = len("".join(lines[:10_000])) + 3
    found = tier(LiveIndex(), text, offset)
    above, below = (file.text.decode() for file in found.segment.files())
    assert MAX_ABOVE - 30 < len(above) <= MAX_ABOVE and MAX_BELOW - 30 < len(below) <= MAX_BELOW
    first_above, first_below = found.first_lines
    assert lines[first_above - 1 : 10_000] == above.splitlines(keepends=True)
    assert lines[10_001] == below.splitlines(keepends=True)[0] and first_below == 10_002


@pytest.mark.parametrize("text", ["x" * 200_000, "a = 1\n" + "x" * 200_000 + "\nb = 2\n", "\0", "", "\r", "é"])
def test_no_text_is_too_strange_to_be_searched(text: str) -> None:
    index = LiveIndex()
    index.change("other.py", text, is_open=True)
    for offset in {0, len(text) // 2, len(text)}:
        opinion = index.opinion(document(text), offset, 0, BYTES)
        assert len(opinion.propose(b"", 4)) <= 4
    assert tier(index, text, 0).segment.n_bytes <= MAX_ABOVE + MAX_BELOW + 2


def test_while_one_line_is_typed_in_nothing_is_built_anew() -> None:
    index = LiveIndex()
    before = tier(index, "a = 1\nx\nb = 2\n", 7)
    assert tier(index, "a = 1\nxy\nb = 2\n", 8).segment is before.segment
    assert tier(index, "a = 12\nxy\nb = 2\n", 9).segment is not before.segment


def test_two_documents_of_one_text_each_have_their_own_path() -> None:
    index = LiveIndex()
    for path in ("one.py", "two.py"):
        (found,) = index.tiers(document("a = 1\nx\n", path), 7)
        assert set(found.segment.paths) == {path}


def test_what_was_built_answers_but_not_for_the_document_at_hand() -> None:
    index = LiveIndex()
    index.use(built(here="call_old(1)\n", other="call_other(2)\n"))
    assert answers(index, "call_<|>new(3)\n") == {"other(2)"}
    assert answers(index, "call_<|>new(3)\n", path="third.py") == {"old(1)", "other(2)"}


def test_a_deleted_file_stops_answering_and_answers_again_when_it_is_back() -> None:
    index = LiveIndex()
    index.use(built(a="call_one(1)\n"))
    index.change("a.py", None, is_open=False)
    assert answers(index, "call_<|>\n") == set()
    index.change("a.py", "call_two(2)\n", is_open=False)
    assert answers(index, "call_<|>\n") == {"two(2)"}


def test_what_is_hidden_answers_no_more_until_it_is_shown_or_something_newer_is_known() -> None:
    index = LiveIndex()
    index.use(built(a="call_one(1)\n", b="call_two(2)\n", c="call_three(3)\n"), hidden=["c.py"])
    assert answers(index, "call_<|>\n") == {"one(1)", "two(2)"}
    index.change("b.py", "call_newer(4)\n", is_open=False)
    before = index.version_beside("x.py")
    index.hide(["a.py", "b.py", "unknown.py"])
    assert answers(index, "call_<|>\n") == {"newer(4)"}
    assert index.version_beside("x.py") > before
    index.show(["a.py", "b.py"])
    assert answers(index, "call_<|>\n") == {"newer(4)", "one(1)"}
    index.change("c.py", "call_three(3)\n", is_open=True)
    assert answers(index, "call_<|>\n") == {"newer(4)", "one(1)", "three(3)"}
    index.use(built(a="call_later(5)\n"))
    assert answers(index, "call_<|>\n") == {"later(5)", "three(3)"}


def test_nothing_that_lay_on_disk_is_remembered_of_a_forgotten_file() -> None:
    index = LiveIndex()
    index.use(built(a="call_one(1)\n", b="call_two(2)\n") | {DEPENDENCIES: built(lib="call_lib(3)\n")[REPOSITORY]})
    index.change("a.py", "call_newer(4)\n", is_open=False)
    index.change("b.py", "call_open(5)\n", is_open=True)
    index.prepare()
    index.forget(["a.py", "b.py", "lib.py", "new.py"])
    assert answers(index, "call_<|>\n") == {"open(5)"}
    before = index.version_beside("x.py")
    index.forget(["b.py"])
    assert index.version_beside("x.py") == before


def test_the_files_below_some_folders_are_those_that_were_built_or_have_changed_on_disk() -> None:
    index = LiveIndex()
    paths = ["a.py", "in/b.py", "in/deep.er/c.py", "in-side.py", "in.py", "inner/d.py"]
    index.use({REPOSITORY: Segment.build([SegmentFile(path, b"x = 1\n") for path in reversed(paths)])})
    index.change("in/new/e.py", "y", is_open=False)
    index.change("in/open.py", "y", is_open=True)
    assert index.paths_below(["in"]) == {"in/b.py", "in/deep.er/c.py", "in/new/e.py"}
    assert index.paths_below(["in/deep.er", "inner"]) == {"in/deep.er/c.py", "inner/d.py"}
    assert index.paths_below([""]) == {*paths, "in/new/e.py"}
    assert index.paths_below(["a.py", "i", "nowhere"]) == set()


def test_definitions_of_files_that_are_gone_do_not_get_into_the_prompt() -> None:
    index = LiveIndex()
    index.use(built(a="def fold_paper(sheet):\n    return sheet\n"))
    asking = document("from a import fold_paper\n\nfold_paper(")
    assert [snippet.path for snippet in index.snippets(asking, len(asking.text))] == ["a.py"]
    index.change("a.py", None, is_open=True)
    assert index.snippets(asking, len(asking.text)) == ()
    index.close("a.py", None)
    assert index.snippets(asking, len(asking.text)) == ()


def test_files_that_were_closed_do_not_take_the_place_of_those_that_are_open() -> None:
    index = LiveIndex()
    for number in range(3 * MAX_FRESH):
        index.change(f"{number}.py", f"call_{number:02}(x)\n", is_open=True)
    for number in range(MAX_FRESH, 3 * MAX_FRESH):
        index.close(f"{number}.py", None)
    index.change("barred.py", None, is_open=True)
    assert answers(index, "call_<|>\n") == {f"{number:02}(x)" for number in range(MAX_FRESH)}
    assert index.paths_below([""]) == set()


def test_of_many_files_that_nobody_has_prepared_only_the_last_few_are_cleaned_for_a_search() -> None:
    cleaned: list[str] = []
    index = LiveIndex(lambda path, text: cleaned.append(path) or without_secrets(path, text))  # type: ignore[func-returns-value]
    names = [f"file_{number}" for number in range(3 * MAX_FRESH)]
    index.use(built(**dict.fromkeys(names, "call_built(1)\n")))
    for name in names:
        index.change(f"{name}.py", "call_newer(2)\n", is_open=True)
    assert answers(index, "call_<|>\n") == {"newer(2)"}
    assert len(cleaned) == MAX_FRESH
    index.prepare()
    assert len(cleaned) == 3 * MAX_FRESH


def test_a_renamed_file_answers_once() -> None:
    index = LiveIndex()
    index.use(built(a="call_one(1)\n"))
    index.change("a.py", None, is_open=False)
    index.change("b.py", "call_one(1)\n", is_open=False)
    index.change("b.py", None, is_open=False)
    assert answers(index, "call_<|>\n") == set()


def test_a_file_changed_on_disk_answers_with_its_new_text_alone() -> None:
    index = LiveIndex()
    index.use(built(a="call_old(1)\n"))
    index.change("a.py", "call_new(2)\n", is_open=False)
    assert answers(index, "call_<|>\n") == {"new(2)"}


def test_an_open_text_overrules_the_disk_until_it_is_closed() -> None:
    index = LiveIndex()
    index.use(built(a="call_built(1)\n"))
    index.change("a.py", "call_open(2)\n", is_open=True)
    index.change("a.py", "call_disk(3)\n", is_open=False)
    index.change("a.py", None, is_open=False)
    assert answers(index, "call_<|>\n") == {"open(2)"}
    index.close("a.py", "call_saved(4)\n")
    assert answers(index, "call_<|>\n") == {"saved(4)"}
    index.change("a.py", "call_disk(5)\n", is_open=False)
    assert answers(index, "call_<|>\n") == {"disk(5)"}
    index.change("a.py", "call_open(6)\n", is_open=True)
    index.close("a.py", None)
    assert answers(index, "call_<|>\n") == set()


@pytest.mark.parametrize("n_files", [1, MAX_FRESH, MAX_FRESH + 1, 3 * MAX_FRESH])
def test_each_of_many_changed_files_answers_with_its_last_text(n_files: int) -> None:
    index = LiveIndex()
    for number in range(n_files):
        index.change(f"{number}.py", f"call_{number:02}(old)\n", is_open=True)
        assert answers(index, f"call_{number:02}<|>\n") == {"(old)"}
    for number in range(n_files):
        index.change(f"{number}.py", f"call_{number:02}(new)\n", is_open=True)
        for other in range(n_files):
            assert answers(index, f"call_{other:02}<|>\n") == {"(new)" if other <= number else "(old)"}
    for number in range(n_files):
        index.change(f"{number}.py", None, is_open=True)
        assert "(new)" not in answers(index, f"call_{number:02}<|>\n")


def test_of_many_changed_files_the_document_at_hand_does_not_answer_for_itself() -> None:
    index = LiveIndex()
    for number in range(2 * MAX_FRESH):
        index.change(f"{number}.py", f"call_{number:02}(x)\n", is_open=True)
    for number in range(2 * MAX_FRESH):
        assert f"call_{number:02}" not in searched(index, "x\n", path=f"{number}.py")
        assert f"call_{(number + 1) % (2 * MAX_FRESH):02}(" in searched(index, "x\n", path=f"{number}.py")


def test_a_new_build_takes_what_lay_on_disk_in_and_leaves_what_is_open() -> None:
    index = LiveIndex()
    index.change("a.py", "call_open(1)\n", is_open=True)
    index.change("b.py", "call_disk(2)\n", is_open=False)
    index.use(built(a="call_built(3)\n", b="call_later(4)\n"))
    assert answers(index, "call_<|>\n") == {"open(1)", "later(4)"}


def test_an_open_file_that_is_as_it_was_built_needs_nothing_of_its_own() -> None:
    index = LiveIndex()
    index.use(built(a="call_one(1)\n"))
    index.change("a.py", "call_one(1)\r\n", is_open=True)
    assert [tier.name for tier in index.tiers(document(""), 0)] == [REPOSITORY, THIS_FILE]
    assert answers(index, "call_<|>\n") == {"one(1)"}


def test_a_file_that_may_not_be_read_does_not_answer_nor_does_what_was_built_of_it() -> None:
    index = LiveIndex(lambda path, text: None if "generated" in text else without_secrets(path, text))
    index.use(built(a="call_built(1)\n"))
    index.change("a.py", "# generated\ncall_open(2)\n", is_open=True)
    assert answers(index, "call_<|>\n") == set()
    index.change("a.py", "call_open(2)\n", is_open=True)
    assert answers(index, "call_<|>\n") == {"open(2)"}


def test_only_the_tiers_named_have_a_say() -> None:
    index = LiveIndex()
    index.use(built(a="call_built(1)\n") | {DEPENDENCIES: Segment.build([SegmentFile("d.py", b"call_lib(2)\n")])})
    index.change("b.py", "call_open(3)\n", is_open=True)
    assert answers(index, "call_here(4)\ncall_<|>\n") == {"built(1)", "lib(2)", "open(3)", "here(4)"}
    assert {tier.name for tier in index.tiers(document("a\n"), 0)} == {DEPENDENCIES, REPOSITORY, CHANGED, THIS_FILE}
    text = "a_very_long_name = call_built(1)\na_very_long_name = call_"
    assert index.opinion(document(text), len(text), 0, BYTES).propose(b"", 4) != []
    assert index.opinion(document(text), len(text), 0, BYTES, names=()).propose(b"", 4) == []


def test_the_version_counts_everything_beside_a_file() -> None:
    index = LiveIndex()
    before = index.version_beside("a.py")
    index.change("a.py", "x", is_open=True)
    assert index.version_beside("a.py") == before
    for change in (
        lambda: index.change("b.py", "y", is_open=True),
        lambda: index.change("b.py", "z", is_open=True),
        lambda: index.close("b.py", None),
        lambda: index.use({}),
    ):
        change()
        assert index.version_beside("a.py") > before
        before = index.version_beside("a.py")
    index.change("c.py", "z", is_open=True)
    before = index.version_beside("a.py")
    index.change("c.py", "z", is_open=True)
    index.change("c.py", "on disk", is_open=False)
    assert index.version_beside("a.py") == before, "nothing that is searched has changed"


def test_what_is_held_of_changed_files_is_counted() -> None:
    index = LiveIndex()
    assert index.n_changed_bytes == 0
    index.change("a.py", "x" * 10, is_open=False)
    index.change("b.py", None, is_open=False)
    index.change("c.py", "x" * 100, is_open=True)
    assert index.n_changed_bytes == 10, "what is open is held all the same"


@settings(max_examples=60)
@given(LINES.map(lambda text: text.replace("b", "\ud83d")), st.data(), st.sampled_from(["", "x", "y\r\nz"]))
def test_the_text_to_be_matched_is_what_the_prompt_left_pending(text: str, data: st.DataObject, inserted: str) -> None:
    offset = data.draw(st.integers(0, len(text)))
    prefix = context_at(document(text), offset, inserted=inserted).prefix
    pending = prefix.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()[-3:]
    opinion = LiveIndex().opinion(document(text), offset, len(pending), BYTES, inserted=inserted)
    assert opinion._pending == pending


@pytest.mark.parametrize("kind, secret, line", SECRETS)
def test_no_secret_is_searched_wherever_it_stands(kind: str, secret: str, line: str) -> None:
    planted = "import os\n" + line.format(secret) + "value = 1\n"
    index = LiveIndex()
    index.change("open.py", planted.replace("\n", "\r\n"), is_open=True)
    index.change("disk.py", planted, is_open=False)
    text = planted + "x = 1\n" + planted
    for offset in {0, len(planted) - 1, len(planted) + 1, len(text), text.index(secret) + 4}:
        found = searched(index, text, offset)
        assert secret not in found and secret[len(secret) // 2 :] not in found
        assert "value = 1" in found


def test_a_key_of_many_lines_is_not_searched_though_the_cursor_is_in_it() -> None:
    body = "".join(f"{number:02}{KEY_LINE[2:]}\n" for number in range(30))
    text = f'import os\nKEY = """-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----"""\nvalue = 1\n'
    for offset in range(0, len(text) + 1, 29):
        found = searched(LiveIndex(), text, offset)
        assert KEY_LINE[10:30] not in found
        assert found.count("\n") >= text.count("\n") - 1, "the other lines stay where they are"


def test_a_key_is_known_though_what_is_searched_begins_or_ends_in_it() -> None:
    body = "".join(f"{number:02}{KEY_LINE[2:]}\n" for number in range(30))
    key = f'KEY = """-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----"""\n'
    filler = "name = value + 1\n"
    above = key + filler * (MAX_ABOVE // len(filler) - 40) + "x"
    below = "x\n" + filler * (MAX_BELOW // len(filler) - 40) + key
    assert KEY_LINE[10:30] not in searched(LiveIndex(), above, len(above))
    assert KEY_LINE[10:30] not in searched(LiveIndex(), below, 0)


def test_drafts_go_on_behind_the_pending_text_of_a_prompt() -> None:
    text = "value = compute(1)\r\nother = comp"
    prompt = completion_prompt(context_at(document(text), len(text)), BYTES, TokenIndex(BYTES), 1024, 32)
    opinion = LiveIndex().opinion(document(text), len(text), len(prompt.pending), BYTES)
    drafts = opinion.propose(prompt.pending, 4)
    assert drafts == []  # four bytes agree: too few to guess several tokens
    text = "some_value_of_theirs = compute(1)\r\nsome_value_of_theirs = comp"
    opinion = LiveIndex().opinion(document(text), len(text), len(prompt.pending), BYTES)
    assert [BYTES.token_bytes(token_id) for token_id in opinion.propose(prompt.pending, 4)] == [b"u", b"t", b"e", b"("]


def test_many_files_that_change_at_once_are_made_ready_where_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    index, n_built = LiveIndex(), []
    build = Segment.build
    monkeypatch.setattr(Segment, "build", lambda files: n_built.append(len(files)) or build(files))
    for number in range(3 * MAX_FRESH):
        index.change(f"{number}.py", f"call_{number:02}()\n", is_open=False)
    newest = searched(index, "x\n")
    assert len(n_built) == MAX_FRESH + 1  # and the document at hand
    assert f"call_{3 * MAX_FRESH - 1:02}" in newest and "call_00" not in newest
    index.prepare()
    n_built.clear()
    assert all(f"call_{number:02}" in searched(index, "x\n") for number in range(3 * MAX_FRESH))
    assert n_built == []
    index.change("0.py", "other()\n", is_open=False)
    assert "other()" in searched(index, "x\n") and "call_00" not in searched(index, "x\n")
