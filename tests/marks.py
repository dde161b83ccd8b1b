"""The drawn cursor of our tests: `<|>` stands where the cursor is."""

CURSOR = "<|>"


def split_at_cursor(marked: str) -> tuple[str, int]:
    """The text without its mark, and the offset at which the mark stood. Exactly one mark is expected."""
    before, mark, after = marked.partition(CURSOR)
    if not mark or CURSOR in after:
        raise ValueError(f"a drawn text needs exactly one {CURSOR}: {marked!r}")
    return before + after, len(before)
