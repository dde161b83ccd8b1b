"""The text of a repository that may be learned from, and what was left out of it and why.

The rule is that of the index (`server.repository`), and notebooks count with their code cells. Secrets are cut here;
what stood left of each is kept in memory, so that the trained model can be asked for it. Whether they are cut is tried
with canaries, made-up keys in copies of some texts: no text that is learned or judged ever holds one.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from finetune.memorisation import N_CANARIES, SecretContext, contexts, plant, question
from server.lm.errors import UserError
from server.lm.languages import CODE_SUFFIXES, language_of_path
from server.repository.barred import is_barred_path
from server.repository.duplicates import DuplicateFilter, Fingerprint, fingerprint
from server.repository.files import CleanFile, Rule, clean_text, list_files, read_text
from server.repository.listing import Drop

NOTEBOOK = ".ipynb"
MIN_FILES, MIN_BYTES = 5, 4_000  # less has nothing to hold out, and nothing to learn
PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun", "%%python", "%%python3", "%%pypy")  # magics over Python
MAX_NOTEBOOK_BYTES = 10_000_000  # mostly pictures and tables; its code may be as long as any other file


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file as it is learned from: line ends "\\n", secrets cut."""

    path: str  # relative to the root, parts separated by "/"
    text: str
    language_id: str
    mtime_ns: int
    n_secrets: int
    fingerprint: Fingerprint = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not learned from, and why in words."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collection:
    """What a repository gives."""

    files: tuple[SourceText, ...]  # by path
    left_out: tuple[LeftOut, ...]
    secrets: tuple[SecretContext, ...]  # that were cut
    canaries: tuple[SecretContext, ...] = ()  # that were planted in copies, each with whether it was cut again

    def counts(self) -> dict[str, int]:
        """How many files were left out, by reason, the most frequent first."""
        return dict(Counter(each.reason for each in self.left_out).most_common())


def collect(
    root: Path, include: Sequence[str] = (), exclude: Sequence[str] = (), canary_seed: int | None = None
) -> Collection:
    """What there is to learn below `root`. With `include`, only paths that match one of these globs. Writes nothing.

    With `canary_seed` copies of some texts, with made-up keys at their end, go through what cuts secrets; the files are
    the same without. A canary that was cut is nowhere, and comes back by chance alone. One that was not means that keys
    of this repository may be in its files' text as well: `memorised` names it without asking the model.
    """
    rule = Rule(CODE_SUFFIXES | {NOTEBOOK}, whole_globs(exclude))
    # How much of a notebook is code is known when it has been read; of any other file, `read_text` says the same.
    listed = list_files(root, replace(rule, limits=replace(rule.limits, max_bytes=MAX_NOTEBOOK_BYTES)))
    left_out = [LeftOut(drop.path, drop.reason) for drop in listed.drops]
    files: list[SourceText] = []
    secrets: list[SecretContext] = []
    known = DuplicateFilter()
    included = whole_globs(include)
    for file in listed.files:
        # `exclude` reads globs so too. The files that this bars by their names alone are not listed.
        if included and not is_barred_path(file.path, included):
            left_out.append(LeftOut(file.path, "not included"))
            continue
        is_notebook = _is_notebook(file.path)
        read = _read_notebook(root, file.path, rule) if is_notebook else read_text(root, file.path, rule)
        if not isinstance(read, CleanFile):
            left_out.append(LeftOut(read.path, read.reason))
            continue
        text = read.text.decode("utf-8")
        print_ = fingerprint(text)
        if (repeats := known.add(print_)) is not None:
            left_out.append(LeftOut(file.path, repeats))
            continue
        language = "python" if is_notebook else _language_id(file.path)
        files.append(SourceText(file.path, text, language, file.mtime_ns, read.n_secrets, print_))
        if read.n_secrets:
            secrets += _cut_from(root, file.path)
    canaries = () if canary_seed is None else tuple(_canaries(root, files, rule, canary_seed))
    return Collection(tuple(files), tuple(left_out), tuple(secrets), canaries)


def check_enough(collection: Collection) -> None:
    """UserError, with the counts and the minimum, when a repository is too small to learn from and to judge by."""
    n_files, n_bytes = len(collection.files), sum(len(file.text.encode()) for file in collection.files)
    if n_files >= MIN_FILES and n_bytes >= MIN_BYTES:
        return
    dropped = ", ".join(f"{n} {reason}" for reason, n in list(collection.counts().items())[:6])
    raise UserError(
        f"too little to learn from: {n_files} files with {n_bytes:,} bytes, at least {MIN_FILES} files with "
        f"{MIN_BYTES:,} bytes are needed (left out: {dropped or 'none'}); completions know this repository all the "
        f"same, from its index; `--dry-run` lists what was left out"
    )


def notebook_code(content: str) -> str | None:
    """The code cells of a notebook, one behind the other; None for what is no notebook in Python."""
    try:
        notebook = json.loads(content)
        cells = notebook["cells"]
        metadata = notebook.get("metadata", {})
        language = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name")
        if language not in (None, "python"):
            return None
        sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        texts = [source if isinstance(source, str) else "".join(source) for source in sources]
        texts = [text for text in texts if not _is_other_language(text)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    lines = "\n\n".join(text.strip("\n") for text in texts if text.strip()).split("\n")
    return "\n".join(line for line in lines if not line.startswith(("%", "!"))) + "\n"  # magic is no Python


def _is_other_language(cell: str) -> bool:
    """Whether a cell's magic hands it to something else than Python."""
    first = cell.lstrip().split(maxsplit=1)[:1]
    return bool(first) and first[0].startswith("%%") and first[0] not in PYTHON_CELLS


def _read_notebook(root: Path, path: str, rule: Rule) -> CleanFile | LeftOut | Drop:
    try:
        code = notebook_code((root / path).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return LeftOut(path, "not UTF-8")
    except OSError:
        return LeftOut(path, "unreadable")
    return LeftOut(path, "no Python notebook") if code is None else clean_text(path, code, rule)


def _canaries(root: Path, files: Sequence[SourceText], rule: Rule, seed: int) -> Iterator[SecretContext]:
    """Made-up keys as if they stood at the end of some files, and whether they were cut there as secrets are."""
    paths = [file.path for file in files if not _is_notebook(file.path)]
    texts: dict[str, str] = {}
    for path in random.Random(seed).sample(paths, min(len(paths), 2 * N_CANARIES)):
        try:
            texts[path] = (root / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    planted, canaries = plant(texts, seed)
    for canary in canaries:
        cleaned = clean_text(canary.path, planted[canary.path], rule)
        asked = question(canary)
        if isinstance(cleaned, CleanFile) and asked is not None:  # else the text is too long with it
            yield replace(canary, was_cut=asked.shown not in cleaned.text.decode("utf-8"))


def _cut_from(root: Path, path: str) -> list[SecretContext]:
    """The secrets of a file. What cannot be read any more has none that was learned."""
    try:
        content = (root / path).read_text(encoding="utf-8")
        # Of a notebook only the code was learned from, and it does not read as its file does.
        return contexts(path, (notebook_code(content) or "") if _is_notebook(path) else content)
    except (OSError, UnicodeDecodeError):
        return []


def whole_globs(globs: Sequence[str]) -> tuple[str, ...]:
    """The globs, and each without a `**` between two slashes, which may stand for no folder at all."""
    return tuple(dict.fromkeys(each for glob in globs for each in (glob, glob.replace("/**/", "/"))))


def _is_notebook(path: str) -> bool:
    return path.lower().endswith(NOTEBOOK)


def _language_id(path: str) -> str:
    language = language_of_path(path)
    return language.id if language is not None else "plaintext"
