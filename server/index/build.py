"""Builds the index of a workspace; run as a program, the child process that `build_process` starts.

What has not changed since the former generation is not read again; where nothing has, nothing is built. The text of
both tiers is bounded, and memory with it: at its peak some ten bytes for each byte of text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from server.index.build_process import BuildError, Progress, Result, Stage
from server.index.dependencies import Wanted, find_packages, wanted_packages
from server.index.store import (
    POINTER_FILE,
    Generation,
    Manifest,
    prune,
    prune_roots,
    read_current,
    read_generation,
    use_generation,
    write_generation,
)
from server.index.texts import Former, installed_texts, load_segments, own_texts, records_of, shown_files
from server.lm.errors import UserError
from server.lm.languages import CODE_SUFFIXES
from server.repository.files import MAX_FILES, RULE_VERSION, CleanFile, File, FileList, Rule, list_files
from server.repository.listing import MAX_NAMES, Drop

if TYPE_CHECKING:
    from server.index.segment import Segment

MAX_REPOSITORY_BYTES = 32_000_000
_BEGINS_AT_PERCENT: dict[Stage, int] = {"scan": 0, "read": 10, "sort": 50, "done": 100}

Report = Callable[[Progress], None]


def build(
    root: Path,
    folder: Path,
    exclude: Sequence[str] = (),
    environments: Sequence[Path] = (),
    report: Report = lambda progress: None,
) -> Result:
    """Brings the index in `folder` up to date with `root`, in this process. UserError where that cannot be."""
    try:
        root = root.resolve(strict=True)
        os.scandir(root).close()
    except (OSError, RuntimeError) as error:
        raise BuildError(f"cannot read the folder {root}: {error}; open a folder that exists") from error
    rule = Rule(CODE_SUFFIXES, tuple(exclude))
    tell = _Teller(report)
    tell("scan", 0, 0)
    listed = list_files(root, rule)
    files, left_out = within_budget(listed.files, MAX_REPOSITORY_BYTES)
    tell("scan", len(files), len(files))
    limit = _limit_sentence(root, listed, left_out)
    repository_hash = _hash("repository", files)

    current = read_current(folder)
    if current is not None and current.manifest.rule_version != RULE_VERSION:
        current = None
    former = Former(current)
    own: list[CleanFile | Drop] | None = None
    if current is not None and current.manifest.repository_hash == repository_hash:
        wanted = Wanted(current.manifest.wanted_python, current.manifest.wanted_script)
    else:
        own = own_texts(root, files, rule, former, partial(tell, "read"))
        wanted = wanted_packages(_kept(own))
    packages = find_packages(root, wanted, rule, environments)
    installed_files = shown_files(root, packages)
    name = _hash(repository_hash, installed_files)

    if current is not None and current.manifest.name == name and (n_bytes := _n_bytes(current)) is not None:
        with suppress(OSError):
            os.utime(folder / POINTER_FILE)  # the index of this workspace is in use
        tell("done", 1, 1)
        return _result(current.manifest, n_bytes, limit, unchanged=True)
    kept = read_generation(folder, name)
    if kept is not None and (n_bytes := _n_bytes(kept)) is not None:
        use_generation(folder, name)
        tell("done", 1, 1)
        return _result(kept.manifest, n_bytes, limit, unchanged=False)

    if own is None:
        own = own_texts(root, files, rule, former, partial(tell, "read"))
    installed = installed_texts(root, packages, rule, former)
    manifest = Manifest(
        name=name,
        root=str(root),
        rule_version=RULE_VERSION,
        repository_hash=repository_hash,
        wanted_python=wanted.python,
        wanted_script=wanted.script,
        files=(*records_of("repository", files, own), *records_of("dependencies", installed_files, installed)),
        dropped=_dropped(listed, len(left_out), own),
        limit_reached=limit,
    )
    segments = _sorted(list(_kept(own)), list(_kept(installed)), tell)
    write_generation(folder, manifest, *segments)
    prune(folder, {name, current.manifest.name if current is not None else name})
    prune_roots(folder.parent)
    tell("done", 1, 1)
    return _result(manifest, sum(segment.n_bytes for segment in segments), limit, unchanged=False)


def within_budget(files: Sequence[File], max_bytes: int) -> tuple[tuple[File, ...], tuple[File, ...]]:
    """The files to index, by path, and those left out: of too many, the ones changed last are taken."""
    taken: list[File] = []
    left_out: list[File] = []
    n_bytes = 0
    for file in sorted(files, key=lambda file: (-file.mtime_ns, file.path)):
        if n_bytes + file.n_bytes > max_bytes:
            left_out.append(file)
        else:
            taken.append(file)
            n_bytes += file.n_bytes
    return tuple(sorted(taken, key=lambda file: file.path)), tuple(left_out)


class _Teller:
    """Reports progress where a percent has passed."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last: tuple[Stage, int] | None = None

    def __call__(self, stage: Stage, done: int, total: int) -> None:
        stages = list(_BEGINS_AT_PERCENT)
        begin = _BEGINS_AT_PERCENT[stage]
        end = _BEGINS_AT_PERCENT[stages[min(stages.index(stage) + 1, len(stages) - 1)]]
        percent = begin + (end - begin) * done // max(total, 1)
        if (stage, percent) != self._last:
            self._last = (stage, percent)
            self._report(Progress(stage, done, total, percent))


def _sorted(own: list[CleanFile], installed: list[CleanFile], tell: _Teller) -> list[Segment]:
    from server.index.segment import Segment, SegmentFile

    total = sum(len(file.text) for file in (*own, *installed))
    done = 0
    segments = []
    for files in (own, installed):
        tell("sort", done, total)
        segments.append(Segment.build([SegmentFile(file.path, file.text) for file in files]))
        done += sum(len(file.text) for file in files)
    tell("sort", done, total)
    return segments


def _n_bytes(generation: Generation) -> int | None:
    """Bytes of text in a generation; None if it cannot be read."""
    segments = load_segments(generation)
    return None if segments is None else sum(segment.n_bytes for segment in segments)


def _result(manifest: Manifest, n_bytes: int, limit: str | None, *, unchanged: bool) -> Result:
    return Result(manifest.name, manifest.n_files, n_bytes, unchanged, dict(manifest.dropped), limit)


def _dropped(listed: FileList, n_left_out: int, own: Iterable[CleanFile | Drop]) -> dict[str, int]:
    """The workspace's files that are not indexed, by reason."""
    counts: Counter[str] = Counter(drop.reason for drop in listed.drops)
    counts.update(each.reason for each in own if isinstance(each, Drop))
    counts["beyond the limit"] += n_left_out
    return {reason: count for reason, count in sorted(counts.items()) if count}


def _kept(files: Iterable[CleanFile | Drop]) -> Iterator[CleanFile]:
    return (file for file in files if isinstance(file, CleanFile))


def _hash(start: str, files: Iterable[File]) -> str:
    """A name for what is built of these files as they are on disk."""
    digest = hashlib.sha256(f"{RULE_VERSION} {start}".encode())
    for file in files:
        digest.update(f"\0{file.path}\0{file.n_bytes}\0{file.mtime_ns}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _limit_sentence(root: Path, listed: FileList, left_out: Sequence[File]) -> str | None:
    """What the user is told about a workspace too large to be indexed whole: the same as long as that is so."""
    remedy = "name folders that nobody needs in the setting `exclude`"
    if listed.limit == "names":
        return (
            f"{root} holds more than {MAX_NAMES:,} files of any kind, of which those deepest in its folders are not "
            "looked at; open a smaller folder, or name those that nobody needs in a `.gitignore` file"
        )
    if listed.limit == "files":
        return (
            f"{root} holds more than {MAX_FILES:,} source files, of which those deepest in its folders are not "
            f"indexed; {remedy}"
        )
    if left_out:
        n_mb = MAX_REPOSITORY_BYTES // 1_000_000
        return (
            f"{root} holds more than {n_mb} MB of source, of which the files not changed for longest are not indexed; "
            f"{remedy}"
        )
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The child process: 0, or 1 after a problem."""
    parser = argparse.ArgumentParser(prog="python -P -m server.index.build", description=build.__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB")
    parser.add_argument("--environment", action="append", type=Path, default=[], metavar="FOLDER")
    options = parser.parse_args(arguments)
    if hasattr(os, "nice"):
        os.nice(10)  # typing comes first on a small machine
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    try:
        result = build(
            options.root,
            options.output,
            options.exclude,
            options.environment,
            lambda progress: _write(lines, asdict(progress)),
        )
    except BrokenPipeError:  # nobody waits for the index any more
        os._exit(1)  # the usual end would try to write what is left
    except UserError as error:
        _write(lines, {"problem": str(error)})
        return 1
    except Exception as error:
        _write(lines, {"problem": f"the index of {options.root} cannot be built: {type(error).__name__}: {error}"})
        return 1
    _write(lines, {"result": asdict(result)})
    return 0


def _write(lines: TextIO, event: dict[str, Any]) -> None:
    lines.write(json.dumps(event) + "\n")
    lines.flush()


if __name__ == "__main__":
    sys.exit(main())
