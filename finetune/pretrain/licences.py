"""Whether a package may be learned from: permissive licences only, and what we do not recognise is out.

Decides from package metadata (licence expression, classifiers, licence field) and, when those say
nothing, from the text of the licence files. Knows nothing of archives.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Literal

Refusal = Literal["copyleft licence", "proprietary licence", "unknown licence"]

# fmt: off
PERMISSIVE = frozenset({
    "MIT", "MIT-0", "MIT-CMU", "HPND", "0BSD", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear",
    "BSD-4-Clause", "Apache-2.0", "ISC", "PSF-2.0", "Python-2.0", "CNRI-Python",
    "Zlib", "Unlicense", "CC0-1.0", "BSL-1.0",
})
# fmt: on
_BY_FOLDED = {name.lower(): name for name in PERMISSIVE}

_SPELLED = {
    "MIT": "mit license; the mit license; mit licence; the mit license (mit); expat",
    "Apache-2.0": (
        "apache; apache 2; apache 2.0; apache2; apache2.0; apache-2; apache license 2.0; apache 2.0 "
        "license; apache license, version 2.0; apache license version 2.0; apache software license; "
        "apache software license 2.0; apache license; apache-2.0 license; asl 2.0"
    ),
    "BSD": "bsd license",
    "BSD-3-Clause": (
        "new bsd; new bsd license; modified bsd license; bsd 3-clause; 3-clause bsd; 3-clause bsd "
        "license; bsd 3-clause license; bsd-3; bsd (3-clause)"
    ),
    "BSD-2-Clause": "freebsd; simplified bsd; bsd 2-clause; 2-clause bsd; bsd 2-clause license",
    "ISC": "isc license; iscl",
    "PSF-2.0": "psf; psfl; psf license; python software foundation license",
    "Zlib": "zlib license",
    "Unlicense": "the unlicense",
    "CC0-1.0": "cc0",
    "BSL-1.0": "boost software license 1.0",
}
_SPELLINGS = {spelling: name for name, line in _SPELLED.items() for spelling in line.split("; ")}
_CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Python License (CNRI Python License)": "CNRI-Python",
    "ISC License (ISCL)": "ISC",
    "zlib/libpng License": "Zlib",
    "The Unlicense (Unlicense)": "Unlicense",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Zero-Clause BSD (0BSD)": "0BSD",
}
_TEXTS = (
    ("Apache-2.0", re.compile(r"Apache License,?\s+Version 2\.0", re.IGNORECASE)),
    ("MIT", re.compile(r"Permission is hereby granted, free of charge, to any person obtaining a copy")),
    ("BSD", re.compile(r"Redistribution and use in source and binary forms, with or\s+without\s+modification")),
    (
        "ISC",
        re.compile(
            r"Permission to use, copy, modify,? and(?:/or)? distribute this software "
            r"for any purpose with or without fee"
        ),
    ),
    ("Unlicense", re.compile(r"This is free and unencumbered software released into the public domain")),
    ("PSF-2.0", re.compile(r"PYTHON SOFTWARE FOUNDATION LICENSE", re.IGNORECASE)),
    ("Zlib", re.compile(r"This software is provided 'as-is', without any express or implied\s+warranty")),
    ("CC0-1.0", re.compile(r"CC0 1\.0 Universal")),
    ("BSL-1.0", re.compile(r"Boost Software License - Version 1\.0")),
)
_COPYLEFT_TEXT = re.compile(
    r"GNU\s+(?:LESSER\s+|LIBRARY\s+|AFFERO\s+)?GENERAL\s+PUBLIC\s+LICEN[SC]E|Mozilla Public License|"
    r"Eclipse Public License|CeCILL|"
    r"Common Development and Distribution",
    re.IGNORECASE,
)
_COPYLEFT_NAME = re.compile(
    r"GPL|MPL|EPL|CDDL|EUPL|CeCILL|OSL|SSPL|copyleft|CC[- ]BY-SA|GNU|Mozilla|Eclipse|Affero", re.IGNORECASE
)
_CLOSED_NAME = re.compile(
    r"proprietary|nvidia|commercial|all rights reserved|non-?commercial|CC[- ]BY-NC|Terms of Service", re.IGNORECASE
)
_HEADER = re.compile(r"SPDX-License-Identifier:[ \t]*([^\n*]+)")


@dataclass(frozen=True, slots=True)
class Licence:
    """A package's licence as declared, and why it may not be used; `refusal` None means permissive."""

    name: str
    refusal: Refusal | None


def package_licence(metadata: Message, licence_texts: Sequence[str]) -> Licence:
    """The licence of a package. All that is declared must agree: a permissive classifier beside a copyleft field
    is refused.
    """
    expression = _header(metadata, "License-Expression")
    if expression:
        return judge_expression(expression)
    declared = []
    classifiers = [
        str(value).split(" :: ")[-1].strip()
        for value in metadata.get_all("Classifier", [])
        if str(value).startswith("License ::")
    ]
    declared += [
        _judge_classifier(name)
        for name in classifiers
        if name not in ("OSI Approved", "DFSG approved", "Public Domain")
    ]
    field = _header(metadata, "License")
    if field:
        from_field = judge_expression(field) if len(field) <= 100 else judge_text(field)
        # Long fields often hold the licences of bundled libraries too; there the classifier speaks for the package.
        if not declared or (from_field.refusal == "copyleft licence" and len(field) <= 100):
            declared.append(from_field)
    if declared and not all(licence.refusal == "unknown licence" for licence in declared):
        return _together(declared)
    if licence_texts:
        return _together([judge_text(text) for text in licence_texts])
    return Licence(field[:100] or "none declared", "unknown licence")


def judge_expression(expression: str) -> Licence:
    """A licence expression such as `MIT AND (Apache-2.0 OR GPL-2.0-only)`, or one free spelling such as `BSD License`.

    AND needs every part permissive, OR needs one, and the name is kept as written.
    """
    name = " ".join(expression.split())
    if name.lower() in _SPELLINGS:
        return Licence(_SPELLINGS[name.lower()], None)
    tokens = re.findall(r"\(|\)|[^\s()]+", name)
    refusal, rest = _either(tokens)
    if rest:  # not an expression: words left over
        refusal = _refusal_of(name)
    return Licence(_BY_FOLDED.get(name.lower(), name), refusal)


def judge_text(text: str) -> Licence:
    """A licence file recognised by its wording; one that names a copyleft licence anywhere counts as copyleft."""
    if _COPYLEFT_TEXT.search(text):
        return Licence("copyleft text", "copyleft licence")
    flat = " ".join(text.split())
    for name, pattern in _TEXTS:
        if pattern.search(flat):
            return Licence(name, None)
    return Licence("unrecognised text", "unknown licence")


def has_copyleft_header(text: str) -> bool:
    """True if the first lines of one source file put it under a copyleft licence."""
    head = text[:3_000]
    tag = _HEADER.search(head)
    if tag:
        return judge_expression(tag.group(1).strip()).refusal == "copyleft licence"
    comments = "\n".join(line.lstrip("#/* \t") for line in head.split("\n"))
    return _COPYLEFT_TEXT.search(comments) is not None


def _header(metadata: Message, name: str) -> str:
    value = str(metadata.get(name) or "").strip()
    return "" if value.upper() in ("UNKNOWN", "NONE") else value


def _judge_classifier(name: str) -> Licence:
    known = _CLASSIFIERS.get(name)
    return Licence(known, None) if known else Licence(name, _refusal_of(name))


def _together(licences: Iterable[Licence]) -> Licence:
    """One licence out of several that hold at once: any refusal refuses, copyleft first."""
    several = list(licences)
    refusals = {licence.refusal for licence in several} - {None}
    name = " AND ".join(dict.fromkeys(licence.name for licence in several))
    order: tuple[Refusal, ...] = ("copyleft licence", "proprietary licence", "unknown licence")
    return Licence(name, next((refusal for refusal in order if refusal in refusals), None))


def _refusal_of(name: str) -> Refusal:
    if _COPYLEFT_NAME.search(name):
        return "copyleft licence"
    if _CLOSED_NAME.search(name):
        return "proprietary licence"
    return "unknown licence"


def _either(tokens: list[str]) -> tuple[Refusal | None, list[str]]:
    refusal, tokens = _all_of(tokens)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _all_of(tokens[1:])
        refusal = None if other is None else refusal
    return refusal, tokens


def _all_of(tokens: list[str]) -> tuple[Refusal | None, list[str]]:
    refusal, tokens = _one(tokens)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _one(tokens[1:])
        refusal = refusal or other
    return refusal, tokens


def _one(tokens: list[str]) -> tuple[Refusal | None, list[str]]:
    if not tokens:
        return "unknown licence", []
    if tokens[0] == "(":
        refusal, tokens = _either(tokens[1:])
        return refusal, tokens[1:]
    name, tokens = tokens[0], tokens[1:]
    refusal = None if name.lower() in _BY_FOLDED else _refusal_of(name)
    if len(tokens) > 1 and tokens[0].upper() == "WITH":  # an exception only adds permissions
        tokens = tokens[2:]
    return refusal, tokens
