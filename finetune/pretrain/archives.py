"""Package archives on disk, of Python and of npm: which there are, what they say of themselves, their sources.

Reads archives, runs nothing from them. Knows nothing of filters or of which packages are wanted.
"""

import gzip
import io
import re
import sysconfig
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import compat32
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Literal

from finetune.pretrain.licences import Licence, package_licence
from finetune.pretrain.npm_archives import NAME_PREFIX, read_metadata, written_sources

Kind = Literal["wheel", "sdist", "npm", "stdlib"]

STDLIB_NAME = "cpython"
# Not the library's own work, or made by building this one interpreter.
_STDLIB_SKIPPED = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "_bundled", "lib2to3/tests"}
)
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    KeyError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
_LICENCE_FILE = re.compile(r"(?:^|/)(?:licen[sc]e|copying|unlicense)[^/]*$", re.IGNORECASE)


class DamagedArchive(Exception):
    """An archive that cannot be read to its end, or says not what it is."""


@dataclass(frozen=True, slots=True)
class Source:
    """One package on disk: an archive, or the standard library of the running Python."""

    kind: Kind
    path: Path
    name: str  # normalised as in PEP 503; npm's as they are, behind `NAME_PREFIX`
    version: str
    licence: Licence
    import_names: frozenset[str]  # normalised too, to be compared with package names


def normalise_name(name: str) -> str:
    """A package name as PEP 503 writes it: lower case, runs of `-_.` as one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_key(version: str) -> tuple[object, ...]:
    """A key that orders versions as PEP 440 does: epoch, release, then dev < a < b < rc < final < post."""
    match = re.fullmatch(
        r"\s*v?(?:(\d+)!)?(\d+(?:\.\d+)*)[-_.]?(?:(a|alpha|b|beta|c|rc|pre|preview)[-_.]?(\d*))?"
        r"(?:[-_.]?(?:post|rev|r)[-_.]?(\d*)|-(\d+))?(?:[-_.]?dev[-_.]?(\d*))?(?:\+.*)?\s*",
        version.lower(),
    )
    if match is None:
        return (-1, (), 0, 0, 0, 0, version)
    epoch, release, phase, n_phase, post, short_post, dev = match.groups()
    numbers = [int(part) for part in release.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    has_post = (post is not None) or (short_post is not None)
    stage = {"a": 1, "b": 2}.get(phase[0], 3) if phase else (0 if dev is not None and not has_post else 4)
    return (
        int(epoch or 0),
        tuple(numbers),
        stage,
        int(n_phase or 0),
        int(post or short_post or 0) + 1 if has_post else 0,
        int(dev or 0) if dev is not None else 1 << 30,
        version,
    )


def find_archives(folders: Iterable[Path]) -> list[Path]:
    """Every wheel and source distribution under the folders, ordered by file name; the same file name counts once."""
    by_name: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.name.endswith((".whl", ".tar.gz", ".tgz", ".zip")) and path.is_file():
                by_name.setdefault(path.name, path)
    return [by_name[name] for name in sorted(by_name)]


def read_source(path: Path) -> Source:
    """What an archive says of itself. Raises DamagedArchive."""
    kind: Kind = "wheel" if path.name.endswith(".whl") else "sdist"
    try:
        with _open(path) as archive:
            names = archive.names()
            if path.name.endswith(".tgz") and any(re.fullmatch(r"[^/]+/package\.json", name) for name in names):
                return _npm_source(path, archive, names)
            wanted = r"[^/]+\.dist-info/METADATA" if kind == "wheel" else r"[^/]+/PKG-INFO"
            found = [name for name in names if re.fullmatch(wanted, name)]
            if len(found) != 1:
                raise DamagedArchive(f"{path.name}: {len(found)} metadata files")
            metadata = BytesParser(policy=compat32).parsebytes(archive.read(found[0]))
            root = found[0].rsplit("/", 1)[0] + "/"
            licences = [
                archive.read(name).decode("utf-8", "replace")
                for name in names
                if name.startswith(root) and name.count("/") <= 3 and _LICENCE_FILE.search(name)
            ]
    except _DAMAGE as error:
        raise DamagedArchive(f"{path.name}: {error}") from error
    if not metadata["Name"] or not metadata["Version"]:
        raise DamagedArchive(f"{path.name}: no name or version")
    return Source(
        kind,
        path,
        normalise_name(str(metadata["Name"])),
        str(metadata["Version"]),
        package_licence(metadata, licences),
        _import_names(name for _, name in _members(kind, names)),
    )


def _npm_source(path: Path, archive: "_Archive", names: list[str]) -> Source:
    root = next(name for name in names if re.fullmatch(r"[^/]+/package\.json", name)).rsplit("/", 1)[0] + "/"
    texts = [
        archive.read(name).decode("utf-8", "replace")
        for name in names
        if name.startswith(root) and name.count("/") == 1 and _LICENCE_FILE.search(name)
    ]
    found = read_metadata(archive.read(f"{root}package.json"), texts)
    own_names = frozenset({normalise_name(found.name), normalise_name(found.name.rsplit("/", 1)[-1])})
    return Source("npm", path, NAME_PREFIX + found.name, found.version, found.licence, own_names)


def stdlib_source() -> Source:
    """The running interpreter's standard library, as a package under its own licence."""
    return Source(
        "stdlib",
        Path(sysconfig.get_path("stdlib")),
        STDLIB_NAME,
        sysconfig.get_config_var("py_version") or "",
        Licence("PSF-2.0", None),
        frozenset(),
    )


def source_files(source: Source, max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
    """Path and content of every source file, ordered by path; None for one above `max_bytes`. Raises DamagedArchive."""
    try:
        if source.kind == "stdlib":
            for path in sorted(source.path.rglob("*.py")):
                relative = path.relative_to(source.path)
                if _STDLIB_SKIPPED.isdisjoint(relative.parts) and not path.name.startswith("_sysconfigdata"):
                    content = path.read_bytes()
                    yield relative.as_posix(), content if len(content) <= max_bytes else None
            return
        with _open(source.path) as archive:
            for member, name in sorted(_members(source.kind, archive.names()), key=lambda pair: pair[1]):
                yield name, archive.read(member) if archive.size(member) <= max_bytes else None
    except _DAMAGE as error:
        raise DamagedArchive(f"{source.path.name}: {error}") from error


def digest_of(source: Source) -> str:
    """sha256 of the archive, or of the paths and contents of the standard library's files. Raises DamagedArchive."""
    digest = sha256()
    try:
        if source.kind == "stdlib":
            for name, content in source_files(source, 1 << 40):
                digest.update(f"{name}\0{len(content or b'')}\0".encode())
                digest.update(content or b"")
        else:
            with source.path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise DamagedArchive(f"{source.path.name}: {error}") from error
    return digest.hexdigest()


class _Archive:
    """The same few questions to a zip and to a tar file."""

    def __init__(self, zipped: zipfile.ZipFile | None, tarred: tarfile.TarFile | None) -> None:
        self._zip, self._tar = zipped, tarred
        self._members = {m.name: m for m in tarred.getmembers() if m.isfile()} if tarred else {}

    def __enter__(self) -> "_Archive":
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._zip, self._tar):
            if opened is not None:
                opened.close()

    def names(self) -> list[str]:
        return [name for name in self._zip.namelist() if not name.endswith("/")] if self._zip else list(self._members)

    def size(self, name: str) -> int:
        return self._zip.getinfo(name).file_size if self._zip else self._members[name].size

    def read(self, name: str) -> bytes:
        if self._zip:
            return self._zip.read(name)
        stream = self._tar.extractfile(self._members[name]) if self._tar else None
        return (stream or io.BytesIO()).read()


def _open(path: Path) -> _Archive:
    if path.name.endswith((".whl", ".zip")):
        return _Archive(zipfile.ZipFile(path), None)
    # Unpacked as a whole: files are read in the order of their paths, and going back in a gzip file starts it anew.
    return _Archive(None, tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes()))))


def _members(kind: Kind, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(member, path in the package): sdists lose their root folder and `src/`, wheels `x.data/purelib/` in front."""
    if kind == "npm":
        yield from written_sources(names)
        return
    for member in names:
        if not member.endswith(".py"):
            continue
        name = member
        if kind == "sdist":
            name = name.split("/", 1)[-1].removeprefix("src/")
        else:
            name = re.sub(r"^[^/]+\.data/(?:purelib|platlib)/", "", name)
        yield member, name


def _import_names(paths: Iterable[str]) -> frozenset[str]:
    tops = {PurePosixPath(path).parts[0] for path in paths}
    return frozenset(normalise_name(top.removesuffix(".py")) for top in tops if not top.endswith(".data"))
