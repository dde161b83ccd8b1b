"""The engines that are compared, ours first; which of them are here depends on what is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tests.bench import engines_own as own
from tests.bench import engines_peers as peers
from tests.bench.engines_process import Writer


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that may take part."""

    name: str
    make: Callable[[Path, int], Writer]  # of the checkpoint's folder and the number of threads
    needs: tuple[str, ...]  # libraries
    is_exact: bool = False  # fp32 throughout: must write what the reference writes
    exact_twin: Callable[[Path, int], Writer] | None = None  # the same, converted the same way, in fp32

    @property
    def is_installed(self) -> bool:
        return all(find_spec(library) for library in self.needs)


def _llama_cpp(folder: Path, threads: int, *, flash: bool, is_exact: bool = False) -> Writer:
    return peers.LlamaCpp(folder, "F32" if is_exact else "Q8_0", threads, uses_flash_attention=flash)


def _ctranslate2(folder: Path, threads: int, *, is_exact: bool = False) -> Writer:
    return peers.CTranslate2(folder, "float32" if is_exact else "int8", threads)


def _onnx(folder: Path, threads: int, *, is_exact: bool = False) -> Writer:
    return own.onnx(folder, "fp32" if is_exact else "int8", threads)


REFERENCE = Candidate("torch reference", own.reference, ("torch", "transformers"), is_exact=True)
OWN = Candidate("own 8-bit", _onnx, ("onnxruntime", "onnx"))
_LLAMA = ("llama_cpp", "gguf")
# llama.cpp's flash attention is not exact in fp32 either, so the conversion is judged without it.
CANDIDATES = (
    OWN,
    Candidate("own fp32", partial(_onnx, is_exact=True), OWN.needs, is_exact=True),
    REFERENCE,
    Candidate("transformers.generate", peers.Transformers, REFERENCE.needs, is_exact=True),
    Candidate(
        "llama.cpp Q8_0",
        partial(_llama_cpp, flash=False),
        _LLAMA,
        exact_twin=partial(_llama_cpp, flash=False, is_exact=True),
    ),
    Candidate(
        "llama.cpp Q8_0, flash attention",
        partial(_llama_cpp, flash=True),
        _LLAMA,
        exact_twin=partial(_llama_cpp, flash=False, is_exact=True),
    ),
    Candidate("CTranslate2 int8", _ctranslate2, ("ctranslate2",), exact_twin=partial(_ctranslate2, is_exact=True)),
)
