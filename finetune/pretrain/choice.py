"""Which packages go into a corpus, and into which half: by licence, by exclusion, by name.

Knows what archives say of themselves. Knows nothing of the files inside.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from finetune.pretrain.archives import (
    DamagedArchive,
    Source,
    digest_of,
    find_archives,
    normalise_name,
    read_source,
    stdlib_source,
    version_key,
)
from finetune.pretrain.manifest import PackageRecord, Split
from server.lm.errors import UserError

logger = logging.getLogger(__name__)

EXCLUDED_PACKAGES = Path(__file__).with_name("excluded_packages.txt")
HELDOUT_SHARE = 0.04  # of packages


def read_names(path: Path) -> frozenset[str]:
    """Normalised package names in a file: one a line, `#` begins a comment. Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"list of package names {path} cannot be read ({error}); name an existing text file") from error
    return frozenset(normalise_name(name) for line in lines if (name := line.split("#")[0].strip()))


def split_of(name: str) -> Split:
    """The split of a package, from its normalised name alone: it never moves when the corpus grows."""
    drawn = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
    return "heldout" if drawn < HELDOUT_SHARE else "train"


def choose(
    folders: Sequence[Path], excluded: frozenset[str], only: frozenset[str] | None, *, with_stdlib: bool
) -> tuple[list[Source], dict[str, list[str]]]:
    """The sources that may be used, newest version of each, and the names of the others by reason. Raises UserError."""
    dropped: dict[str, list[str]] = defaultdict(list)
    newest: dict[str, Source] = {}
    for path in _archives(folders):
        try:
            source = read_source(path)
        except DamagedArchive as error:
            logger.warning("skipped: %s", error)
            dropped["damaged archive"].append(path.name)
            continue
        held = newest.get(source.name)
        newest[source.name] = source if held is None else max(held, source, key=_preference)
        if held is not None:
            dropped["older version"].append(min(held, source, key=_preference).path.name)
    if with_stdlib:
        stdlib = stdlib_source()
        newest[stdlib.name] = stdlib
    sources = []
    for source in newest.values():
        if only is not None and source.name not in only:
            dropped["not asked for"].append(source.name)
        elif source.name in excluded or not excluded.isdisjoint(source.import_names):
            dropped["excluded"].append(source.name)
        elif source.licence.refusal:
            dropped[source.licence.refusal].append(f"{source.name}: {source.licence.name}")
        else:
            sources.append(source)
    return sources, {reason: sorted(names) for reason, names in sorted(dropped.items())}


def recorded_sources(packages: Iterable[PackageRecord], folders: Sequence[Path]) -> tuple[list[Source], list[str]]:
    """The archives with the recorded digests, and a line for each one that is not there. Raises UserError."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in _archives(folders):
        by_name[normalise_name(path.name.split("-")[0])].append(path)  # another archive of a Python package
        by_name[path.name].append(path)
    sources, missing = [], []
    for package in packages:
        source = _matching(package, by_name)
        if source is None:
            missing.append(
                f"{package.archive or 'standard library of Python ' + package.version} (sha256 {package.sha256})"
            )
        else:
            sources.append(source)
    return sources, missing


def _archives(folders: Sequence[Path]) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; name folders with wheels after --wheels")
    archives = find_archives(folders)
    if not archives:
        raise UserError(
            f"no wheel or source distribution in {', '.join(map(str, folders))}; "
            "download some there first (`pip download`)"
        )
    return archives


def _preference(source: Source) -> tuple[object, ...]:
    return version_key(source.version), source.kind == "wheel", source.path.name


def _matching(package: PackageRecord, by_name: dict[str, list[Path]]) -> Source | None:
    """The source with the recorded digest, looked for under its file name, then among the package's other archives."""
    if not package.archive:
        stdlib = stdlib_source()
        return stdlib if digest_of(stdlib) == package.sha256 else None
    for path in dict.fromkeys(by_name.get(package.archive, []) + by_name.get(package.name, [])):
        try:
            source = read_source(path)
            if digest_of(source) == package.sha256:
                return source
        except DamagedArchive:
            continue
    return None
