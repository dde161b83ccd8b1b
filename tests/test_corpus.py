"""A corpus of permissively licensed packages, the same one whenever the same archives are there."""

import argparse
import io
import json
import logging
import os
import random
import re
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from finetune.pretrain import corpus
from finetune.pretrain.archives import normalise_name, version_key
from finetune.pretrain.choice import EXCLUDED_PACKAGES, read_names, split_of
from finetune.pretrain.corpus import main
from finetune.pretrain.licences import has_copyleft_header, judge_expression, package_licence
from finetune.pretrain.manifest import identity, read_manifest

MIT = "License-Expression: MIT"


def source(seed: object, n_functions: int = 6) -> str:
    """Code unlike that of any other seed."""
    draw = random.Random(str(seed))
    words = [f"{draw.choice('abcdefgh')}_{draw.randrange(10**6)}" for _ in range(n_functions * 6)]
    functions = []
    for place in range(0, len(words), 6):
        name, one, two, three, four, five = words[place : place + 6]
        functions.append(
            f"def {name}({one}, {two}):\n    {three} = {one}.{four}({two})\n    for {five} in {three}:\n"
            f"        yield {five} + {two}\n"
        )
    return "\n\n".join(functions)


def wheel(
    folder: Path, name: str, version: str = "1.0", header: str = MIT, files: dict[str, str] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files if files is not None else {f"{name}/core.py": source(name)}).items():
            archive.writestr(zipfile.ZipInfo(file), text)
        metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{header}\n\nA package.\n"
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), metadata)
    return path


def sdist(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in {"PKG-INFO": f"Name: {name}\nVersion: {version}\n{MIT}\n\n", **files}.items():
            member = tarfile.TarInfo(f"{name}-{version}/{file}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    corpus.add_arguments(parser)
    return main(parser.parse_args([str(argument) for argument in (*arguments, "--without-stdlib", "--processes", 1)]))


def rows(folder: Path) -> list[dict[str, str]]:
    return [
        json.loads(line)
        for split in ("train", "heldout")
        for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def packages(folder: Path) -> set[str]:
    return {row["package"] for row in rows(folder)}


def name_in(split: str, start: str) -> str:
    """A package name of the wished split."""
    return next(name for number in range(1000) if split_of(name := f"{start}{number}") == split)


@pytest.fixture
def wheels(tmp_path):
    return tmp_path / "wheels"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "corpus"


def test_permissive_packages_are_in_and_the_manifest_says_so(wheels, output):
    wheel(wheels, "alpha", "2.1")
    assert run("--wheels", wheels, "--output", output) == 0
    assert rows(output) == [{"package": "alpha", "path": "alpha/core.py", "text": source("alpha")}]
    (record,) = read_manifest(output / "manifest.json").packages
    assert (record.name, record.version, record.licence, record.n_files) == ("alpha", "2.1", "MIT", 1)
    assert record.n_bytes == len(source("alpha"))
    assert str(wheels) not in (output / "manifest.json").read_text()


def test_every_excluded_package_is_absent(wheels, output):
    excluded = read_names(EXCLUDED_PACKAGES)
    assert {"streamlink", "beets", "soco", "nikola", "pymodbus", "rxjs", "tweepy", "mitmproxy", "fabric"} <= excluded
    wheel(wheels, "alpha")
    for name in excluded:
        wheel(wheels, name.replace("-", "_"))
    wheel(wheels, "renamed", files={"streamlink/session.py": source("renamed")})
    wheel(wheels, "one_module", files={"human_eval.py": source("module")})

    assert run("--wheels", wheels, "--output", output) == 0

    manifest = read_manifest(output / "manifest.json")
    assert [package.name for package in manifest.packages] == ["alpha"]
    assert packages(output) == {"alpha"}
    assert set(manifest.dropped_packages["excluded"]) == excluded | {"renamed", "one-module"}


def test_a_list_of_ones_own_excludes_too(wheels, output, tmp_path):
    (tmp_path / "more.txt").write_text("# mine\nBeta_Two  # by any spelling\n")
    wheel(wheels, "alpha")
    wheel(wheels, "beta.two")
    wheel(wheels, "tweepy")
    assert run("--wheels", wheels, "--output", output, "--exclude-list", tmp_path / "more.txt") == 0
    assert packages(output) == {"alpha"}


def test_only_the_asked_for_packages(wheels, output, tmp_path):
    (tmp_path / "only.txt").write_text("alpha\n")
    wheel(wheels, "alpha")
    wheel(wheels, "beta")
    assert run("--wheels", wheels, "--output", output, "--only", tmp_path / "only.txt") == 0
    assert packages(output) == {"alpha"}


def test_of_several_versions_the_newest(wheels, output):
    for version in ("1.9", "1.10", "1.10rc1"):
        wheel(wheels / version, "alpha", version, files={"alpha/core.py": source(version)})
    sdist(wheels, "alpha", "1.2", {"src/alpha/core.py": source("sdist")})
    assert run("--wheels", wheels, "--output", output) == 0
    assert [row["text"] for row in rows(output)] == [source("1.10")]


def test_a_source_distribution_loses_its_outer_folders(wheels, output):
    sdist(wheels, "alpha", "1.0", {"src/alpha/core.py": source("a"), "alpha/other.py": source("b")})
    assert run("--wheels", wheels, "--output", output) == 0
    assert {row["path"] for row in rows(output)} == {"alpha/core.py", "alpha/other.py"}


def test_bad_files_are_counted_by_reason(wheels, output):
    wheel(wheels, "alpha", files={
        "alpha/core.py": source("alpha"),
        "alpha/copy.py": source("alpha"),
        "alpha/near.py": source("alpha", 60),
        "alpha/nearer.py": source("alpha", 60) + "\n\nlast = None\n",
        "alpha/old.py": source("old") + "\nprint 'python 2'\n",
        "alpha/_vendor/core.py": source("vendored"),
        "alpha/thing_pb2.py": source("generated"),
        "alpha/short.py": "x = 1\n",
        "alpha/large.py": source("large", 2000),
        "alpha/gpl.py": "# Released under the GNU General Public License.\n" + source("gpl"),
        "alpha/core.pyi": source("stub"),
        "alpha/data.json": "{}",
    })  # fmt: skip
    assert run("--wheels", wheels, "--output", output) == 0
    assert {row["path"] for row in rows(output)} == {"alpha/copy.py", "alpha/near.py"}
    assert read_manifest(output / "manifest.json").dropped_files == {
        "copyleft header": 1, "exact duplicate": 1, "generated": 1, "near duplicate": 1, "not this Python": 1,
        "too large": 1, "too short": 1, "vendored": 1,
    }  # fmt: skip


def test_text_is_normalised_and_secrets_are_cut(wheels, output):
    secret = "ghp_" + "a1B2" * 9
    text = "\ufeff" + source("alpha") + f"\n\ntoken = '{secret}'\n"
    wheel(wheels, "alpha", files={"alpha/core.py": text.replace("\n", "\r\n")})
    assert run("--wheels", wheels, "--output", output) == 0
    assert rows(output)[0]["text"] == source("alpha") + "\n\ntoken = ''\n"
    assert read_manifest(output / "manifest.json").n_secrets_cut == 1
    assert not [path for path in output.iterdir() if secret in path.read_text()]


def test_what_is_held_out_is_not_trained_on(wheels, output):
    kept, held_out = name_in("train", "aa"), name_in("heldout", "zz")
    wheel(wheels, kept, files={f"{kept}/own.py": source("own"), f"{kept}/copied.py": source("shared")})
    wheel(wheels, held_out, files={f"{held_out}/core.py": source("shared")})
    assert run("--wheels", wheels, "--output", output) == 0
    assert "own.py" in (output / "train.jsonl").read_text()
    assert "copied.py" not in (output / "train.jsonl").read_text()
    assert held_out in (output / "heldout.jsonl").read_text()


def test_about_one_package_in_twenty_five_is_held_out():
    held_out = sum(split_of(f"package-{number}") == "heldout" for number in range(5000))
    assert 150 < held_out < 250


def _many(folder: Path) -> None:
    for name in ("delta", "alpha", "gamma", "beta", name_in("heldout", "zz")):
        wheel(folder, name, files={f"{name}/{file}.py": source(name + file) for file in "cab"})
        wheel(folder, name, "0.1")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_rebuild_from_the_manifest_is_byte_identical(wheels, output, tmp_path):
    _many(wheels)
    wheel(wheels, "tweepy")
    wheel(wheels, "gnu", header="License-Expression: GPL-3.0-only")
    assert run("--wheels", wheels, "--output", output) == 0
    (wheels / "newer").mkdir()
    wheel(wheels / "newer", "alpha", "9.0")  # a rebuild does not take what came later

    again = tmp_path / "again"
    assert run("--wheels", wheels, "--output", again, "--from-manifest", output / "manifest.json") == 0

    assert set(contents(output)) == {"train.jsonl", "heldout.jsonl", "manifest.json"}
    assert contents(again) == contents(output)
    assert identity(again) == read_manifest(output / "manifest.json").identity


def _twenty(folder: Path) -> None:
    """Packages of several licences, some of which share a file or nearly so, or have an older version."""
    headers = ["License-Expression: MIT", "License: BSD", "License-Expression: Apache-2.0 OR GPL-2.0-only"]
    for number in range(20):
        name = f"package{number:02}"
        files = {f"{name}/{part}.py": source(name + part) for part in ("core", "more")}
        if number % 4 == 0:
            files[f"{name}/copied.py"] = source("copied")
        if number % 5 == 0:
            files[f"{name}/nearly.py"] = source("nearly", 60) + f"\n\nlast = {number}\n"
        wheel(folder, name, "1.1", headers[number % 3], files)
        if number % 7 == 0:
            wheel(folder, name, "1.0")


def test_twenty_packages_are_the_same_corpus_each_time(wheels, output, tmp_path, capsys):
    _twenty(wheels)
    again, rebuilt = tmp_path / "again", tmp_path / "rebuilt"
    assert run("--wheels", wheels, "--output", output) == 0
    assert run("--wheels", wheels, "--output", again) == 0
    assert run("--wheels", wheels, "--output", rebuilt, "--from-manifest", output / "manifest.json") == 0

    manifest = read_manifest(output / "manifest.json")
    assert len(manifest.packages) == 20
    assert {package.licence for package in manifest.packages} == {"MIT", "BSD", "Apache-2.0 OR GPL-2.0-only"}
    assert manifest.dropped_files == {"exact duplicate": 4, "near duplicate": 3}
    assert manifest.dropped_packages == {
        "older version": [f"package{number:02}-1.0-py3-none-any.whl" for number in (0, 7, 14)]
    }
    assert identity(output) == identity(again) == identity(rebuilt) == manifest.identity
    assert contents(again) == contents(output) == contents(rebuilt)

    gone = [f"package{number:02}-1.1-py3-none-any.whl" for number in (3, 11, 19)]
    for name in gone:
        (wheels / name).unlink()
    assert run("--wheels", wheels, "--output", rebuilt, "--from-manifest", output / "manifest.json") == 1
    message = capsys.readouterr().err
    assert message.startswith("corpus: 3 of 20 archives")
    assert re.findall(r"package\d\d-1\.1-py3-none-any\.whl", message) == gone
    assert identity(rebuilt) == manifest.identity, "what was there stays"


def test_neither_folders_nor_processes_change_the_corpus(wheels, output, tmp_path, monkeypatch):
    _many(wheels)
    assert run("--wheels", wheels, "--output", output) == 0
    scattered = tmp_path / "scattered"
    for number, path in enumerate(sorted(wheels.iterdir(), reverse=True)):
        (scattered / str(number)).mkdir(parents=True)
        os.link(path, scattered / str(number) / path.name)
    parser = argparse.ArgumentParser()
    corpus.add_arguments(parser)
    arguments = ["--wheels", str(scattered), "--output", str(tmp_path / "b"), "--without-stdlib", "--processes", "2"]
    assert main(parser.parse_args(arguments)) == 0
    assert contents(tmp_path / "b") == contents(output)


def test_a_rebuild_names_every_missing_archive(wheels, output, tmp_path, capsys):
    _many(wheels)
    assert run("--wheels", wheels, "--output", output) == 0
    (wheels / "beta-1.0-py3-none-any.whl").unlink()
    wheel(wheels, "gamma", files={"gamma/core.py": source("another build of the same version")})

    assert run("--wheels", wheels, "--output", tmp_path / "b", "--from-manifest", output / "manifest.json") == 1

    message = capsys.readouterr().err
    assert message.startswith("corpus: 2 of 5 archives")
    assert "beta-1.0-py3-none-any.whl" in message
    assert "gamma-1.0-py3-none-any.whl" in message
    assert "alpha" not in message
    assert not (tmp_path / "b").exists()


def test_a_rebuild_refuses_what_is_excluded_by_now(wheels, output, tmp_path, capsys):
    wheel(wheels, "alpha")
    assert run("--wheels", wheels, "--output", output) == 0
    (tmp_path / "more.txt").write_text("alpha\n")
    manifest = output / "manifest.json"
    assert (
        run(
            "--wheels", wheels, "--output", output, "--from-manifest", manifest, "--exclude-list", tmp_path / "more.txt"
        )
        == 1
    )
    assert "excluded packages: alpha" in capsys.readouterr().err


def test_a_rebuild_tells_when_the_outcome_differs(wheels, output, tmp_path, capsys):
    wheel(wheels, "alpha")
    assert run("--wheels", wheels, "--output", output) == 0
    manifest = output / "manifest.json"
    recorded = read_manifest(manifest).identity
    manifest.write_text(manifest.read_text().replace(recorded, "0" * 64))
    assert run("--wheels", wheels, "--output", tmp_path / "b", "--from-manifest", manifest) == 1
    message = capsys.readouterr().err
    assert recorded in message
    assert "0" * 64 in message


def test_a_damaged_wheel_is_left_out_and_counted(wheels, output, caplog):
    wheel(wheels, "alpha")
    (wheels / "broken-1.0-py3-none-any.whl").write_bytes(b"not a zip file")
    whole = wheel(wheels, "torn", files={"torn/core.py": source("torn"), "torn/more.py": source("more")})
    content = whole.read_bytes()
    place = content.index(b"yield")
    whole.write_bytes(content[:place] + b"YIELD" + content[place + 5 :])  # its checksum no longer fits
    with caplog.at_level(logging.WARNING):
        assert run("--wheels", wheels, "--output", output) == 0
    assert packages(output) == {"alpha"}
    dropped = read_manifest(output / "manifest.json").dropped_packages
    assert dropped == {"damaged archive": ["broken-1.0-py3-none-any.whl", "torn-1.0-py3-none-any.whl"]}


@pytest.mark.parametrize("prepare, message", [
    (lambda wheels: None, "is not a folder"),
    (lambda wheels: wheels.mkdir(), "no wheel or source distribution"),
    (lambda wheels: wheel(wheels, "gnu", header="License: GPLv3"), "no package may be used: 1 copyleft licence"),
    (lambda wheels: wheel(wheels, "small", files={"small.py": "x = 1\n"}), "no file is left of 1 packages"),
])  # fmt: skip
def test_what_cannot_be_built_is_said_in_one_sentence(wheels, output, capsys, prepare, message):
    prepare(wheels)
    assert run("--wheels", wheels, "--output", output) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_an_output_that_is_a_file_is_said_in_one_sentence(wheels, tmp_path, capsys):
    wheel(wheels, "alpha")
    (tmp_path / "taken").write_text("")
    assert run("--wheels", wheels, "--output", tmp_path / "taken") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_full_disk_is_said_in_one_sentence(wheels, tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    wheel(wheels, "alpha", files={f"alpha/f{number}.py": source(number, 40) for number in range(20)})
    output = tmp_path / "corpus"
    output.mkdir()
    (output / "train.jsonl.partial").symlink_to("/dev/full")
    assert run("--wheels", wheels, "--output", output) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("content, message", [
    (None, "cannot be read"),
    ("{", "is not JSON"),
    ('{"format": 99}', "has format 99"),
    ('{"format": 1, "identity": "x"}', "is damaged"),
])  # fmt: skip
def test_a_bad_manifest_is_said_in_one_sentence(wheels, output, tmp_path, capsys, content, message):
    wheel(wheels, "alpha")
    manifest = tmp_path / "manifest.json"
    if content is not None:
        manifest.write_text(content)
    assert run("--wheels", wheels, "--output", output, "--from-manifest", manifest) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("header, refusal", [
    ("License-Expression: MIT", None),
    ("License-Expression: MIT OR GPL-2.0-only", None),
    ("License-Expression: Apache-2.0 WITH LLVM-exception", None),
    ("License-Expression: MPL-2.0 AND (Apache-2.0 OR MIT)", "copyleft licence"),
    ("License-Expression: MIT AND LGPL-3.0-or-later", "copyleft licence"),
    ("License-Expression: LicenseRef-NVIDIA-Proprietary", "proprietary licence"),
    ("License-Expression: LicenseRef-Something", "unknown licence"),
    ("License: BSD", None),
    ("License: Apache License, Version 2.0", None),
    ("License: GPLv3", "copyleft licence"),
    ("License: any-OSI", "unknown licence"),
    ("License: UNKNOWN", "unknown licence"),
    ("Classifier: License :: OSI Approved :: MIT License", None),
    ("Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: BSD License", None),
    ("License: whatever we say\nClassifier: License :: OSI Approved :: MIT License", None),
    ("License: LGPL-2.1\nClassifier: License :: OSI Approved :: MIT License", "copyleft licence"),
    ("Classifier: License :: OSI Approved :: BSD License\n"
     "Classifier: License :: OSI Approved :: GNU General Public License (GPL)", "copyleft licence"),
    ("Classifier: License :: Other/Proprietary License", "proprietary licence"),
    ("Summary: nothing said", "unknown licence"),
])  # fmt: skip
def test_permissive_licences_pass_and_others_do_not(header, refusal):
    assert package_licence(message_from_string(header + "\n\n"), []).refusal == refusal


@pytest.mark.parametrize("texts, refusal", [
    (["Permission is hereby granted, free of charge, to any person obtaining a copy of this"], None),
    (["Redistribution and use in source and binary forms, with or without\nmodification, are"], None),
    (["                 Apache License\n           Version 2.0, January 2004\n"], None),
    (["GNU GENERAL PUBLIC LICENSE\nVersion 3"], "copyleft licence"),
    (["Permission is hereby granted, free of charge, to any person obtaining a copy",
      "GNU LESSER GENERAL PUBLIC LICENSE"], "copyleft licence"),
    (["All rights reserved."], "unknown licence"),
])  # fmt: skip
def test_the_licence_file_decides_when_the_metadata_is_silent(texts, refusal):
    assert package_licence(message_from_string("Name: x\n\n"), texts).refusal == refusal


def test_a_licence_keeps_one_name():
    assert judge_expression("The MIT License (MIT)").name == judge_expression("mit").name == "MIT"


@pytest.mark.parametrize("head, copyleft", [
    ("# SPDX-License-Identifier: GPL-3.0-or-later\n", True),
    ("# SPDX-License-Identifier: MIT\n", False),
    ("# This is free software under the GNU\n# Lesser General Public License.\n", True),
    ("# Licensed under the MIT licence.\n", False),
])  # fmt: skip
def test_a_file_may_be_under_another_licence_than_its_package(head, copyleft):
    assert has_copyleft_header(head + source("x")) is copyleft


def test_versions_are_ordered_as_packages_order_them():
    ordered = "1.0.dev1 1.0a1 1.0b2 1.0rc1 1.0 1.0.post1 1.1 1.10 2 1!0.1".split()
    shuffled = random.Random(3).sample(ordered, len(ordered))
    assert sorted(shuffled, key=version_key) == ordered


def test_names_are_compared_in_one_spelling():
    assert normalise_name("Some.Package__Name") == "some-package-name"
