import tracemalloc
from types import SimpleNamespace

from finetune.points import draw

TEXT = (
    "import os\n\n\ndef first(value):\n    return os.path.join(value, 'x')\n\n"
    "# comment line\nresult = first('hello') + unusual_name\n"
)
FILES = [SimpleNamespace(path=f"{n}.py", text=TEXT.replace("hello", n), language_id="python") for n in "abc"]


def test_the_parts_of_a_point_are_the_file():
    points = draw(FILES, 50, 0)
    texts = {f.path: f.text for f in FILES}
    assert points
    for p in points:
        assert p.before + p.target + p.after == texts[p.path]


def test_the_same_seed_draws_the_same_and_fewer_are_among_more():
    assert draw(FILES, 3, 1) == draw(FILES, 3, 1)
    assert set(draw(FILES, 2, 1)) <= set(draw(FILES, 5, 1))
    assert draw(FILES, 2, 1) != draw(FILES, 2, 2)


def test_no_point_lies_in_a_comment_line():
    assert all(p.line != 7 for p in draw(FILES, 50, 0))


def test_a_long_file_is_not_copied_for_each_of_its_lines():
    text = "".join(f"value_{n} = compute(value_{n}, argument_{n})\n" for n in range(3_000))
    tracemalloc.start()
    try:
        points = draw([SimpleNamespace(path="long.py", text=text, language_id="python")], 5, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(points) == 15 and peak < 40 * len(text)  # all points of the file hold 9,000 times its text
