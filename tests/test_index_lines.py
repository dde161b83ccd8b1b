"""How a line may end: what stands at places like the cursor, ranked by how much they are like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.index.at_hand import MAX_PAST
from server.index.lines import Line
from server.index.live import REPOSITORY, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.lm.context import Document
from server.lm.languages import language_for
from tests.marks import split_at_cursor
from tests.test_secrets import SECRETS

OTHER = """def load(path):
    with open(path) as stream:
        return parse(stream.read())


def save(path, rows):
    with open(path, "w") as stream:
        stream.write(render(rows))
"""


def lines(marked: str, path: str = "src/here.py", **texts: str) -> list[Line]:
    """The ends of the marked line, with the repository's other files: `a="..."` is src/a.py."""
    text, offset = split_at_cursor(marked)
    index = LiveIndex()
    files = [SegmentFile(f"src/{name}.py", each.encode()) for name, each in texts.items()]
    index.use({REPOSITORY: Segment.build(files)})
    return index.lines(Document(f"file:///work/{path}", path, language_for("python"), text), offset)


def texts(found: list[Line]) -> list[str]:
    return [line.text for line in found]


def test_a_line_that_began_alike_ends_alike() -> None:
    found = lines("def read(path):\n    with open(path) as <|>\n", other=OTHER)
    assert texts(found)[0] == "stream:"
    assert found[0].sources[0].path == "src/other.py" and found[0].sources[0].line == 2


def test_what_stands_below_tells_alike_places_apart() -> None:
    one = "a = 1\nsend(first)\nlog(first)\n\n\n"
    two = "a = 1\nsend(second)\nlog(second)\n"
    assert texts(lines("a = 1\nsend(<|>\nlog(first)\n", other=one + two))[0] == "first)"
    assert texts(lines("a = 1\nsend(<|>\nlog(second)\n", other=one + two))[0] == "second)"


def test_what_stands_above_tells_alike_places_apart() -> None:
    one = "def order_total(order, price):\n    order.check(price)\n\n    return price\n"
    two = "def member_name(member, name):\n    member.check(name)\n\n    return name\n"
    asked = "def {0}(member, name):\n    member.update(name)\n\n    return <|>\n"
    assert texts(lines(asked.format("member_title"), other=one + two))[0] == "name"


def test_probabilities_fall_and_leave_room_for_none_of_them() -> None:
    found = lines("def read(path):\n    with open(path<|>\n", other=OTHER)
    chances = [line.probability for line in found]
    assert chances == sorted(chances, reverse=True)
    assert 0 < sum(chances) < 1 and all(0 < chance < 1 for chance in chances)


def test_a_line_that_stands_right_below_already_is_no_end() -> None:
    assert "log(b)" not in texts(lines("x = 1\nlog(<|>\nlog(b)\n", other="log(b)\nlog(c)\n"))
    found = texts(lines("x = 1\nlog(<|>\nlog(b)\n", other="log(b)\nlog(c)\n"))
    assert "c)" in found and "b)" not in found


def test_on_a_blank_line_neither_blanks_nor_the_next_line_are_ends() -> None:
    found = texts(
        lines("if a:\n    <|>\n    stop()\n", other="if a:\n    \n    go()\nif a:\n        deep()\n    stop()\n")
    )
    assert found and not {"", "stop()"} & set(found) and not any(text[:1].isspace() for text in found)


def test_what_stands_behind_the_cursor_of_a_blank_line_is_no_end() -> None:
    found = texts(lines("add(\n<|>)\n", other="add(\n)\nadd(\nfirst)\n"))
    assert "first)" in found and ")" not in found


def test_an_end_runs_into_what_stands_behind_the_cursor() -> None:
    other = "total = price * amount + tax\ntotal = price * weight\n"
    found = texts(lines("total = price * <|> + tax\n", other=other))
    assert found[0] == "amount" and not any("weight" in text for text in found)


@pytest.mark.parametrize("rest", [")", "):", '")', "]  "])
def test_closers_that_an_editor_put_there_bar_no_end(rest: str) -> None:
    assert "value)" in texts(lines(f"send(<|>{rest}\n", other="send(value)\n"))


def test_the_cursor_s_own_line_never_answers() -> None:
    assert lines("unheard_of(1) + unheard_<|>of(2)\n") == []


def test_another_place_in_the_file_answers_with_its_line() -> None:
    found = lines("first = 1\nunheard_of(first)\nsecond = 2\nunheard_<|>\n")
    assert found[0].text == "of(first)" and found[0].sources[0].line == 2


@pytest.mark.parametrize(("_kind", "secret", "template"), SECRETS)
def test_a_secret_of_the_open_file_is_in_no_end(_kind: str, secret: str, template: str) -> None:
    text = template.format(secret)
    start = text.index(text.split(secret[:4])[0][-6:]) + 6 if secret in text else len(text) - 1
    assert all(secret not in line.text for line in lines(f"{text}\n{text[:start]}<|>\n"))


def test_windows_line_ends_change_nothing() -> None:
    marked = "def read(path):\n    with open(path) as <|>\n"
    assert lines(marked.replace("\n", "\r\n"), other=OTHER) == lines(marked, other=OTHER)


def test_what_the_popup_would_insert_counts_as_typed() -> None:
    index = LiveIndex()
    index.use({REPOSITORY: Segment.build([SegmentFile("a.py", b"reader.read_all(rows)\n")])})
    document = Document("file:///work/b.py", "b.py", language_for("python"), "reader.\n")
    assert texts(index.lines(document, len("reader."), "read_all"))[0] == "(rows)"


def test_a_character_of_several_bytes_is_never_cut() -> None:
    found = lines('title = "\u201d<|>\n', other='a = "\u0153"\nb = "\u2714"\ntitle = "\u201c"\n')
    assert all("\ufffd" not in line.text for line in found)


TEXT = st.lists(st.sampled_from(["x = 1", "f(x)", "    f(x, é)", "", "\u201c€", "def f(x):", "\t}"]), max_size=12)


@given(TEXT, TEXT, st.data())
def test_any_cursor_gets_ends_of_one_line_each_once(here: list[str], there: list[str], data: st.DataObject) -> None:
    text = "\n".join(here)
    offset = data.draw(st.integers(0, len(text)))
    index = LiveIndex()
    index.use({REPOSITORY: Segment.build([SegmentFile("a.py", "\n".join(there).encode())])})
    found = index.lines(Document("file:///work/b.py", "b.py", language_for("python"), text), offset)
    assert len(set(texts(found))) == len(found)
    assert all(line.text.strip() and "\n" not in line.text for line in found)
    assert sum(line.probability for line in found) < 1


def test_a_long_past_is_compared_in_part_only() -> None:
    above = "".join(f"line_{number} = {number}\n" for number in range(MAX_PAST))
    assert lines(f"{above}special_<|>\n", other="special_case()\n")[0].text == "case()"
