"""How good what is offered would be, by how likely a line of the index must be."""

from tests.bench.fit_choice import MULTIPLES, Question, offered, told

CLOSE = Question("one", "total(x)", "total(y)", 0.2, "wrong", 0.45)  # the line is 2.25 times as likely
SURE = Question("two", "total(x)", "total(y)", 0.9, "total(x)", 0.85)
NONE = Question("two", "total(x)", "total(x)", 0.0, "", 0.0)


def test_a_line_is_offered_from_the_multiple_or_where_it_is_sure() -> None:
    assert [offered(CLOSE, times) for times in (1.0, 2.2, 2.3)] == ["wrong", "wrong", "total(y)"]
    assert offered(SURE, 6.0) == "total(x)"
    assert offered(NONE, 1.0) == "total(x)"


def test_each_multiple_is_told_for_all_and_for_each_package() -> None:
    head, *rows = told([CLOSE, SURE, NONE])
    assert head.split()[1:4] == ["all", "one", "two"] and len(rows) == len(MULTIPLES)
    found = {row.split()[0]: [float(cell) for cell in row.split()[1:]] for row in rows}
    assert found["2.0"][0] == found["2.5"][0] == 66.7 and found["2.0"][6] == 100.0
    assert found["2.0"][4] < found["2.5"][4] == 87.5 and found["2.0"][5] == 0.0
