"""The text of a repository that may be learned from, and what was left out of it and why.

The rule is that of the index (`server.repository`), and notebooks count with their code cells. Secrets are cut here;
what stood left of each is kept in memory, so that the trained model can be asked for it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from finetune.memorisation import N_CANARIES, SecretContext, contexts, plant
from server.lm.errors import UserError
from server.lm.languages import CODE_SUFFIXES, language_of_path
from server.repository.duplicates import DuplicateFilter, Fingerprint, fingerprint
from server.repository.files import CleanFile, Rule, clean_text, list_files, read_text
from server.repository.listing import Drop

NOTEBOOK = ".ipynb"
MIN_FILES, MIN_BYTES = 5, 4_000  # less has nothing to hold out, and nothing to learn
MAX_NOTEBOOK_BYTES = 10_000_000


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
    canaries: tuple[SecretContext, ...] = ()  # that were planted, and cut again

    def counts(self) -> dict[str, int]:
        """How many files were left out, by reason, the most frequent first."""
        return dict(Counter(each.reason for each in self.left_out).most_common())


def collect(
    root: Path, include: Sequence[str] = (), exclude: Sequence[str] = (), canary_seed: int | None = None
) -> Collection:
    """What there is to learn below `root`. With `include`, only paths that match one of these globs. Writes nothing.

    With `canary_seed` some texts are read as if made-up keys stood at their end: what cuts secrets must cut them.
    """
    rule = Rule(CODE_SUFFIXES | {NOTEBOOK}, tuple(exclude))
    listed = list_files(root, rule)
    left_out = [LeftOut(drop.path, drop.reason) for drop in listed.drops]
    files: list[SourceText] = []
    secrets: list[SecretContext] = []
    canaries: list[SecretContext] = []
    known = DuplicateFilter()
    planted = {} if canary_seed is None else _planted(root, [file.path for file in listed.files], canary_seed)
    for file in listed.files:
        if include and not any(fnmatch(file.path, glob) for glob in include):
            left_out.append(LeftOut(file.path, "not included"))
            continue
        is_notebook = file.path.endswith(NOTEBOOK)
        if file.path in planted:
            read: CleanFile | LeftOut | Drop = clean_text(file.path, planted[file.path], rule)
        else:
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
        if file.path in planted:
            # The last one is ours: it stands at the text's end.
            *own, canary = contexts(file.path, planted[file.path])
            secrets += own
            canaries.append(canary)
        elif read.n_secrets:
            secrets += _cut_from(root, file.path)
    return Collection(tuple(files), tuple(left_out), tuple(secrets), tuple(canaries))


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    lines = "\n\n".join(text.strip("\n") for text in texts if text.strip()).split("\n")
    return "\n".join(line for line in lines if not line.startswith(("%", "!"))) + "\n"  # magic is no Python


def _read_notebook(root: Path, path: str, rule: Rule) -> CleanFile | LeftOut | Drop:
    try:
        if (root / path).stat().st_size > MAX_NOTEBOOK_BYTES:
            return LeftOut(path, "too large")
        code = notebook_code((root / path).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return LeftOut(path, "not UTF-8")
    except OSError:
        return LeftOut(path, "unreadable")
    return LeftOut(path, "no Python notebook") if code is None else clean_text(path, code, rule)


def _planted(root: Path, paths: Sequence[str], seed: int) -> dict[str, str]:
    """The texts of some files with canaries at their end, by path."""
    texts: dict[str, str] = {}
    paths = [path for path in paths if not path.endswith(NOTEBOOK)]
    for path in random.Random(seed).sample(paths, min(len(paths), 2 * N_CANARIES)):
        try:
            texts[path] = (root / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    planted, canaries = plant(texts, seed)
    return {canary.path: planted[canary.path] for canary in canaries}


def _cut_from(root: Path, path: str) -> list[SecretContext]:
    """The secrets of a file. What cannot be read any more has none that was learned."""
    try:
        content = (root / path).read_text(encoding="utf-8")
        # Of a notebook only the code was learned from, and it does not read as its file does.
        return contexts(path, (notebook_code(content) or "") if path.endswith(NOTEBOOK) else content)
    except (OSError, UnicodeDecodeError):
        return []


def _language_id(path: str) -> str:
    language = language_of_path(path)
    return language.id if language is not None else "plaintext"
