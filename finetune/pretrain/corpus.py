"""A training corpus made from package archives of Python and npm on disk and the running Python's standard library.

Same archives, same Python, same corpus, byte for byte. Reads the disk, never the network. Which files
are worth learning from is the business of `server.repository`; which packages may be, of `licences`.
"""

import argparse
import json
import logging
import multiprocessing
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

from finetune.pretrain.archives import Source
from finetune.pretrain.choice import EXCLUDED_PACKAGES, choose, read_names, recorded_sources, split_of
from finetune.pretrain.harvest import Harvest, harvest
from finetune.pretrain.manifest import SPLITS, Manifest, PackageRecord, identity, read_manifest, write_manifest
from server.lm.errors import UserError
from server.repository.duplicates import DuplicateFilter

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `corpus` to a parser."""
    parser.add_argument(
        "--wheels",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders with wheels, source distributions or npm archives",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where train.jsonl, heldout.jsonl and manifest.json go",
    )
    parser.add_argument(
        "--exclude-list", type=Path, metavar="FILE", help="package names to leave out besides excluded_packages.txt"
    )
    parser.add_argument("--only", type=Path, metavar="NAMES_FILE", help="use these packages alone, one name a line")
    parser.add_argument(
        "--from-manifest", type=Path, metavar="MANIFEST", help="rebuild the corpus that this manifest.json describes"
    )
    parser.add_argument(
        "--without-stdlib", action="store_true", help="leave out the standard library of the running Python"
    )
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="worker processes (default: 2)")


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 built, 1 not, with one sentence on stderr."""
    try:
        excluded = read_names(EXCLUDED_PACKAGES) | (read_names(args.exclude_list) if args.exclude_list else frozenset())
        if args.from_manifest:
            manifest = rebuild(args.from_manifest, args.wheels, args.output, excluded, processes=args.processes)
        else:
            only = read_names(args.only) if args.only else None
            sources, dropped = choose(args.wheels, excluded, only, with_stdlib=not args.without_stdlib)
            manifest = build(sources, args.output, dropped, processes=args.processes)
    except UserError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 1
    for split, total in manifest.totals().items():
        logger.info("%s: %d packages, %d files, %d bytes", split, total["packages"], total["files"], total["bytes"])
    logger.info("dropped packages: %s", {reason: len(names) for reason, names in manifest.dropped_packages.items()})
    logger.info("dropped files: %s", manifest.dropped_files)
    return 0


def build(
    sources: Iterable[Source], output: Path, dropped_packages: dict[str, list[str]], *, processes: int = 2
) -> Manifest:
    """Writes the corpus of these sources into `output` and returns its manifest. Raises UserError.

    Held-out packages come first, so that of two alike files the held-out one stays and training never sees it.
    The three files are written aside and take their places at the end.
    """
    ordered = sorted(sources, key=lambda source: (SPLITS.index(split_of(source.name)), source.name))
    if not ordered:
        raise UserError(
            "no package may be used: "
            + (_counts(dropped_packages) or "the folders hold no archives")
            + "; name folders with wheels of permissively licensed packages"
        )
    dropped_packages = {reason: list(names) for reason, names in dropped_packages.items()}
    try:
        output.mkdir(parents=True, exist_ok=True)
        manifest = _write(ordered, output, dropped_packages, processes)
    except OSError as error:
        with suppress(OSError):
            for split in SPLITS:
                (output / f"{split}.jsonl.partial").unlink(missing_ok=True)
        raise UserError(
            f"corpus cannot be written to {output} ({error.strerror}); free some space or name another folder"
        ) from error
    if not manifest.packages:
        raise UserError(f"no file is left of {len(ordered)} packages ({manifest.dropped_files}); name more packages")
    return manifest


def rebuild(
    manifest_path: Path, folders: Sequence[Path], output: Path, excluded: frozenset[str], *, processes: int = 2
) -> Manifest:
    """Builds again the corpus of a manifest, from exactly its archives.

    Raises UserError naming every missing archive, or when a package is excluded by now, or when the outcome
    is another corpus.
    """
    recorded = read_manifest(manifest_path)
    banned = [package.name for package in recorded.packages if package.name in excluded]
    if banned:
        raise UserError(f"manifest {manifest_path} holds excluded packages: {', '.join(banned)}; build a new corpus")
    sources, missing = recorded_sources(recorded.packages, folders)
    if missing:
        raise UserError(
            f"{len(missing)} of {len(recorded.packages)} archives of {manifest_path} are missing; "
            "fetch them into a folder named with --wheels:\n  " + "\n  ".join(missing)
        )
    manifest = build(sources, output, recorded.dropped_packages, processes=processes)
    if manifest.identity != recorded.identity:
        raise UserError(
            f"corpus in {output} is {manifest.identity}, the manifest says {recorded.identity}: "
            f"the filters or the Python ({manifest.python}, then {recorded.python}) have changed; "
            "build without --from-manifest"
        )
    manifest = replace(
        manifest,
        dropped_packages=recorded.dropped_packages,
        dropped_files=recorded.dropped_files,
        n_secrets_cut=recorded.n_secrets_cut,
    )
    write_manifest(manifest, output / "manifest.json")
    return manifest


def _write(sources: Sequence[Source], output: Path, dropped_packages: dict[str, list[str]], processes: int) -> Manifest:
    duplicates = DuplicateFilter()
    dropped: Counter[str] = Counter()
    records: list[PackageRecord] = []
    n_secrets = 0
    start = monotonic()
    with ExitStack() as stack:
        streams = {
            split: stack.enter_context((output / f"{split}.jsonl.partial").open("w", encoding="utf-8", newline="\n"))
            for split in SPLITS
        }
        for n_done, package in enumerate(_harvested(sources, processes), start=1):
            name, split = package.source.name, split_of(package.source.name)
            if package.damaged:
                dropped_packages.setdefault("damaged archive", []).append(package.source.path.name)
                continue
            dropped += package.dropped
            n_secrets += package.n_secrets
            n_files = n_bytes = 0
            for file in package.files:
                duplicate = duplicates.add(file.fingerprint)
                if duplicate:
                    dropped[duplicate] += 1
                    continue
                streams[split].write(
                    json.dumps({"package": name, "path": file.path, "text": file.text}, ensure_ascii=False) + "\n"
                )
                n_files += 1
                n_bytes += len(file.text.encode())
            if n_files:
                archive = "" if package.source.kind == "stdlib" else package.source.path.name
                records.append(
                    PackageRecord(
                        name,
                        package.source.version,
                        archive,
                        package.sha256,
                        package.source.licence.name,
                        n_files,
                        n_bytes,
                        split,
                    )
                )
            else:
                dropped_packages.setdefault("no file left", []).append(name)
            if n_done % 50 == 0:
                logger.info(
                    "%d of %d packages, %d files kept, %d MB, %.0f s",
                    n_done,
                    len(sources),
                    sum(r.n_files for r in records),
                    sum(r.n_bytes for r in records) // 10**6,
                    monotonic() - start,
                )
    for split in SPLITS:
        (output / f"{split}.jsonl.partial").replace(output / f"{split}.jsonl")
    records.sort(key=lambda record: record.name)
    manifest = Manifest(
        identity(output),
        platform.python_version(),
        tuple(records),
        {reason: sorted(names) for reason, names in sorted(dropped_packages.items())},
        dict(sorted(dropped.items())),
        n_secrets,
    )
    write_manifest(manifest, output / "manifest.json")
    return manifest


def _harvested(sources: Sequence[Source], processes: int) -> Iterator[Harvest]:
    """The packages in the order of the sources, whatever the workers finish first."""
    if processes < 2 or len(sources) < 2:
        yield from map(harvest, sources)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(harvest, sources)


def _counts(dropped_packages: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} {reason}" for reason, names in dropped_packages.items())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    _parser = argparse.ArgumentParser(prog="python -m finetune.pretrain.corpus")
    add_arguments(_parser)
    sys.exit(main(_parser.parse_args()))
