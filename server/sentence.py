"""One English sentence out of what the model wrote about a piece of code, and how far it can be trusted.

Pure text: knows nothing of the model, documents or Markdown.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MAX_REPEATED_WORDS = 8
PLAUSIBLE_LENGTH = range(3, 31)  # words; the same bounds as in training

# A full stop ends the sentence only before a blank, so `os.path` and `3.5` do not; nor do these.
ABBREVIATIONS = frozenset(
    {"e.g", "i.e", "etc", "vs", "cf", "resp", "approx", "incl", "no", "fig", "eq", "dr", "mr", "st"}
)
STOP = re.compile(r"[.!?](?=\s|$)")
OPENING = re.compile(r"^(?:```\w*|\"\"\"|'''|//+|/\*+|#+|[*>\-]+|\s)+")
CODE_FENCE = re.compile(r"```.*", re.DOTALL)
STAMMER = re.compile(r"(\S{2,12}?)\1{2,}")
BLANKS = re.compile(r"\s+")
WORD = re.compile(r"[^\W\d_]+")
PART_OF_NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+")
# Behind at least three letters: -s, -es, -ed, -er, -ing, and the vowel that comes and goes with them.
ENDING = re.compile(r"(?<=...)[eiy]?(?:s|es|ed|ers?|ing|e|y)$")

# A sentence that stops at one of these was cut off.
DANGLING = frozenset(
    "a an the of to in on at by for from with and or nor but as is are was be that which whose when where if then than "
    "into its this these those it not no so via per between".split()
)
# Words that fit any piece of code and so say nothing about this one.
EMPTY = DANGLING | frozenset(
    "return returns returned def class self cls function method module object value values none true false given get "
    "set sets gets will can may must should use used uses using one two all any each other new import type types code "
    "has have had does done make makes str int float bool list dict tuple args kwargs init".split()
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What may be shown, and how far to trust it."""

    text: str  # a capital at its start, one full stop (or ? or !) at its end
    confidence: float  # 0..1


def sentence_end(text: str) -> int | None:
    """The length of the first sentence in `text`, its full stop included; None while it goes on.

    A stop condition for decoding: leading blanks are allowed, a line break after words ends the sentence as well.
    """
    start = len(text) - len(text.lstrip())
    line_break = text.find("\n", start)
    for stop in STOP.finditer(text, start, len(text) if line_break < 0 else line_break):
        before = text[start : stop.start()].rsplit(None, 1)
        # The last character written so far may turn out to stand inside a name or a number.
        if stop.end() < len(text) and before and before[-1].lower().strip("(\"'") not in ABBREVIATIONS:
            return stop.end()
    return None if line_break < 0 else line_break


def one_sentence(generated: str, *, mean_logprob: float, finished: bool, name: str, source: str) -> Sentence | None:
    """The sentence in `generated`, put into shape and rated; None when there are no words in it.

    `mean_logprob` is the model's own, natural log per token; `finished` says that the model ended by itself. `name`
    and `source` are what the sentence is about.
    """
    text = CODE_FENCE.sub("", OPENING.sub("", generated)).strip()
    end = sentence_end(text + " ")
    finished = finished or (end is not None and text[end - 1 : end] in set(".!?"))
    text = BLANKS.sub(" ", text if end is None else text[:end]).strip()
    text, stammers = _without_stammer(text)
    words, repeats = without_repetition(text.split())
    looped = stammers or repeats
    if not finished or looped:
        while len(words) > 1 and words[-1].lower().strip(",;:") in DANGLING:
            words.pop()
    text = " ".join(words).rstrip(" ,;:-–—(`\"'" if not finished else " ,;:")
    if not WORD.search(text):
        return None
    text = text if text[-1] in ".!?" else text + "."
    return Sentence(_capitalised(text), _confidence(text, mean_logprob, finished, looped, name, source))


def _without_stammer(text: str) -> tuple[str, bool]:
    """`text` with a piece of a word that stands three times in a row or more kept once, and whether there was one."""
    shortened = STAMMER.sub(r"\1", text)
    return shortened, shortened != text


def without_repetition(words: list[str]) -> tuple[list[str], bool]:
    """`words` up to where they start to repeat themselves, and whether they do.

    A repetition is a group of up to `MAX_REPEATED_WORDS` words that stands twice in a row, or for a single word, the
    same word twice ("the the"; a deliberate "that that" is rare enough).
    """
    plain = [word.lower().strip(".,;:") for word in words]
    for start in range(len(words)):
        for length in range(1, MAX_REPEATED_WORDS + 1):
            group = plain[start : start + length]
            if len(group) == length and group == plain[start + length : start + 2 * length]:
                return words[: start + length], True
    return words, False


def _confidence(text: str, mean_logprob: float, finished: bool, looped: bool, name: str, source: str) -> float:
    """The model's mean probability per token, lowered by each sign that the sentence is no explanation."""
    words = WORD.findall(text)
    confidence = min(math.exp(mean_logprob), 1.0) if math.isfinite(mean_logprob) else 0.0
    if len(text.split()) not in PLAUSIBLE_LENGTH:
        confidence *= 0.5
    if not finished:
        confidence *= 0.5
    if looped:
        confidence *= 0.2
    if not stems(" ".join(words)) & (stems(name) | stems(source)):
        confidence *= 0.5
    letters = sum(character.isalpha() or character == " " for character in text)
    return confidence * min(1.0, letters / (0.8 * len(text)))


def stems(text: str) -> frozenset[str]:
    """The beginnings of the words that say something, endings left out: "Writes", "writing" and `write_all` share one.

    Names are taken apart at case changes and underscores.
    """
    parts = (part.lower() for part in PART_OF_NAME.findall(text))
    return frozenset(ENDING.sub("", part)[:5] for part in parts if len(part) > 2 and part not in EMPTY)


def _capitalised(text: str) -> str:
    """`text` with a capital at its start, unless it starts with a name, as in `read_csv opens`."""
    first = text.split(None, 1)[0].rstrip(".,;:!?")
    return text[0].upper() + text[1:] if first.isalpha() and (first.islower() or first.istitle()) else text
