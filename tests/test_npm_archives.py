"""What npm packages give a corpus: sources that people wrote, under licences that allow it."""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import pytest

from finetune.pretrain import corpus
from finetune.pretrain.npm_archives import is_compiled, read_metadata, written_sources

WRITTEN = """import { Reader } from './reader';

/** Sums up what a reader still has to give, and closes it. */
export function total(reader: Reader<number>): number {
  let sum = 0;
  for (let value = reader.next(); value !== undefined; value = reader.next()) {
    sum += value;
  }
  reader.close();
  return sum;
}
"""
COMPILED = '"use strict";\nObject.defineProperty(exports, "__esModule", { value: true });\n' + WRITTEN * 2


def npm_archive(folder: Path, name: str, files: dict[str, str], **metadata: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.strip('@').replace('/', '-')}-1.2.3.tgz"
    package = {"name": name, "version": "1.2.3", "license": "MIT", **metadata}
    with tarfile.open(path, "w:gz") as archive:
        for file, text in {"package.json": json.dumps(package), **files}.items():
            member = tarfile.TarInfo(f"package/{file}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def corpus_rows(folder: Path, output: Path) -> list[dict[str, str]]:
    parser = argparse.ArgumentParser()
    corpus.add_arguments(parser)
    arguments = ["--wheels", str(folder), "--output", str(output), "--without-stdlib", "--processes", "1"]
    assert corpus.main(parser.parse_args(arguments)) == 0
    return [
        json.loads(line)
        for split in ("train", "heldout")
        for line in (output / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_a_package_gives_its_sources_under_its_own_name(tmp_path):
    npm_archive(tmp_path / "archives", "@scope/sums", {"src/total.ts": WRITTEN, "README.md": "Sums."})
    rows = corpus_rows(tmp_path / "archives", tmp_path / "corpus")
    assert rows == [{"package": "npm:@scope/sums", "path": "src/total.ts", "text": WRITTEN}]


@pytest.mark.parametrize("path", ["dist/total.js", "lib/esm/total.js", "src/total.d.ts", "umd/a/b.js", "notes.txt"])
def test_what_a_build_made_is_left_out(path):
    assert written_sources([f"package/{path}"]) == []


def test_beside_its_typescript_javascript_is_a_translation():
    assert written_sources(["package/src/a.ts", "package/lib/a.js"]) == [("package/src/a.ts", "src/a.ts")]


def test_one_stray_typescript_file_does_not_push_the_javascript_out():
    members = ["package/index.ts", "package/lib/a.js", "package/lib/b.js"]
    assert {path for _, path in written_sources(members)} == {"index.ts", "lib/a.js", "lib/b.js"}


def test_compiled_files_and_files_of_another_syntax_are_dropped_by_name(tmp_path):
    broken = "\n".join(f"function ({number} => {{ let = ] ;" for number in range(40))
    files = {"lib/a.js": COMPILED, "lib/b.js": broken, "lib/c.js": WRITTEN.replace(": Reader<number>", "")}
    npm_archive(tmp_path / "archives", "sums", files)
    rows = corpus_rows(tmp_path / "archives", tmp_path / "corpus")
    assert [row["path"] for row in rows] == ["lib/c.js"]
    dropped = json.loads((tmp_path / "corpus/manifest.json").read_text())["dropped_files"]
    assert dropped == {"compiled": 1, "not this JavaScript": 1}


def test_an_excluded_package_stays_out(tmp_path):
    npm_archive(tmp_path / "archives", "rxjs", {"src/total.ts": WRITTEN})
    npm_archive(tmp_path / "archives", "sums", {"src/total.ts": WRITTEN})
    rows = corpus_rows(tmp_path / "archives", tmp_path / "corpus")
    assert {row["package"] for row in rows} == {"npm:sums"}


@pytest.mark.parametrize(
    "declared, texts, refusal",
    [
        ({"license": "MIT"}, [], None),
        ({"license": "(MIT OR GPL-3.0-or-later)"}, [], None),
        ({"license": "GPL-3.0"}, [], "copyleft licence"),
        ({"license": {"type": "Apache-2.0", "url": "there"}}, [], None),
        ({"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}, [], "copyleft licence"),
        ({"license": "SEE LICENSE IN LICENSE"}, ["All rights reserved."], "unknown licence"),
        ({}, ["Permission is hereby granted, free of charge, to any person obtaining a copy"], None),
        ({}, [], "unknown licence"),
    ],
)
def test_the_licence_is_the_declared_one_or_that_of_the_files(declared, texts, refusal):
    package = json.dumps({"name": "a", "version": "1.0.0", **declared}).encode()
    assert read_metadata(package, texts).licence.refusal == refusal


def test_a_package_without_a_name_is_no_package():
    with pytest.raises(ValueError, match="no name or version"):
        read_metadata(b"{}", [])


@pytest.mark.parametrize("text", [WRITTEN, "exports.add = (a, b) => a + b;\n", "if (a === void 0) return;\n"])
def test_what_people_write_is_not_taken_for_compiled(text):
    assert not is_compiled(text)


@pytest.mark.parametrize("text", [COMPILED, "var __awaiter = (this && 0) || 0;\n", "//# sourceMappingURL=a"])
def test_what_compilers_write_is_known(text):
    assert is_compiled(text)
