"""What weights are fitted on is what a server searches: cleaned, and of the packages only those that are imported."""

from __future__ import annotations

from pathlib import Path

from server.index.live import DEPENDENCIES, REPOSITORY
from tests.bench.fit_mixing import index_of
from tests.bench.heldout import SourceFile
from tests.bench.quality.environments import SITE_PACKAGES
from tests.bench.quality.repository import Repository, write

CODE = "import wanted\n\n\ndef add(first, second):\n    total = first + second\n    return wanted.sum(total)\n"
# Put together here, so that no scanner takes this file for one that holds a key.
SECRET = "AKIA" + "Q3EGSDJ2UV7PL5XN"


def test_the_index_is_prepared_as_for_a_server(tmp_path: Path) -> None:
    files = (
        SourceFile("demo/a.py", "python", CODE),
        SourceFile("demo/b.py", "python", f'{CODE}\n\nKEY = "{SECRET}"\n'),
    )
    repository = Repository("demo", tmp_path / "roots" / "demo", files, ())
    write(files, repository.root)
    environment = tmp_path / "environment"
    for name in ("wanted", "other"):
        folder = environment / SITE_PACKAGES / name
        (folder / "tests").mkdir(parents=True)
        (folder / "__init__.py").write_text(f"def sum(values):\n    return {name}_total(values, start=0)\n" * 3)
        (folder / "tests" / "test_it.py").write_text(CODE)
    index = index_of(repository, environment)
    own, installed = index.built[REPOSITORY], index.built[DEPENDENCIES]
    assert own.paths == ("demo/a.py", "demo/b.py")
    assert not any(SECRET.encode() in file.text for file in own.files())
    assert [Path(path).parts[-2:] for path in installed.paths] == [("wanted", "__init__.py")]
    assert not index_of(repository, None).built[DEPENDENCIES].paths
