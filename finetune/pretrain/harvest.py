"""The files of one package that are worth learning from, judged without knowing the other packages.

Runs in worker processes. Duplicates are found by the caller, who sees all packages in order.
"""

import ast
import warnings
from collections import Counter
from dataclasses import dataclass

from finetune.pretrain.archives import DamagedArchive, Source, digest_of, source_files
from finetune.pretrain.javascript_passages import PARSE_LIMIT_MS
from finetune.pretrain.licences import has_copyleft_header
from finetune.pretrain.npm_archives import is_compiled
from server.lm import syntax
from server.lm.languages import language_of_path
from server.repository.duplicates import Fingerprint, fingerprint
from server.repository.quality import Limits, path_reason, text_reason
from server.repository.secrets import is_secret_path, scrub

MAX_SYNTAX_ERRORS = 3  # the grammars lag behind the languages


@dataclass(frozen=True, slots=True)
class HarvestedFile:
    """One file, its secrets cut."""

    path: str
    text: str
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Harvest:
    """What one package gives, and how many of its files were dropped, by reason."""

    source: Source
    sha256: str  # "" when nothing of it is left
    files: tuple[HarvestedFile, ...]
    dropped: Counter[str]
    n_secrets: int
    damaged: bool


def harvest(source: Source) -> Harvest:
    """The good files of a package, ordered by path. A damaged archive gives none, however far it could be read."""
    limits = Limits()
    dropped: Counter[str] = Counter()
    files: list[HarvestedFile] = []
    n_secrets = 0
    try:
        for path, content in source_files(source, limits.max_bytes):
            judged = _judge(path, content, limits)
            if isinstance(judged, str):
                dropped[judged] += 1
            else:
                file, n_cut = judged
                files.append(file)
                n_secrets += n_cut
        sha256 = digest_of(source) if files else ""
    except DamagedArchive:
        return Harvest(source, "", (), Counter(), 0, damaged=True)
    return Harvest(source, sha256, tuple(files), dropped, n_secrets, damaged=False)


def _judge(path: str, content: bytes | None, limits: Limits) -> str | tuple[HarvestedFile, int]:
    """Why the file is dropped, or the file and the number of secrets cut from it."""
    reason = path_reason(path)
    if reason:
        return reason
    if is_secret_path(path):
        return "secret file"
    if content is None:
        return "too large"
    text = _decoded(content)
    if text is None:
        return "not utf-8"
    scrubbed = scrub(text)
    text = scrubbed.text
    dropped = text_reason(text, limits) or _source_reason(path, text)
    return dropped or (HarvestedFile(path, text, fingerprint(text)), len(scrubbed.findings))


def _decoded(content: bytes) -> str | None:
    """The text with `\\n` line breaks and no byte order mark, or None when it is not utf-8."""
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return None


def _source_reason(path: str, text: str) -> str | None:
    if has_copyleft_header(text):
        return "copyleft header"
    return _python_reason(text) if path.endswith(".py") else _javascript_reason(path, text)


def _javascript_reason(path: str, text: str) -> str | None:
    if is_compiled(text):
        return "compiled"
    language = language_of_path(path)
    n_errors = None if language is None else syntax.n_errors(text, language, limit_ms=PARSE_LIMIT_MS)
    return "not this JavaScript" if n_errors is None or n_errors > MAX_SYNTAX_ERRORS else None


def _python_reason(text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "not this Python"
    return None
