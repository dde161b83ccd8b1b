"""The model that is adapted: ours as it is, a plain GPT-2 with the prompt's markers taught to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.base import open_base
from finetune.general import choosing_rows
from finetune.held_out_bits import WINDOW_TOKENS, file_bits, windows_of
from finetune.planning import Plan
from finetune.training import new_adapter
from server.lm.adapter_manifest import Manifest, file_hashes, write_manifest
from server.lm.errors import UserError
from server.lm.model import load_model
from server.lm.prompt import file_header

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")
N_PLAIN = 280  # tokens


@pytest.fixture
def plain(make_checkpoint: Callable[..., Path]) -> Path:
    """A GPT-2 as others make them: one marker, two tokenizer files, more rows than tokens."""
    from tokenizers import ByteLevelBPETokenizer

    folder = make_checkpoint(vocab_size=N_PLAIN + 2)
    (folder / "tokenizer.json").unlink()
    tokenizer = ByteLevelBPETokenizer()
    text = ["def add(a, b):\n    return a + b\n"] * 9
    tokenizer.train_from_iterator(text, N_PLAIN, special_tokens=["<|endoftext|>"])
    tokenizer.save_model(str(folder))
    return folder


def test_our_own_models_learn_no_tokens(tiny_checkpoint: Path) -> None:
    base = open_base(str(tiny_checkpoint))
    assert base.new_tokens == () and base.special.pad == 6


def test_a_plain_gpt2_gets_the_markers_that_it_lacks(plain: Path) -> None:
    base = open_base(str(plain))
    n_plain = load_model(str(plain), threads=1).tokenizer.vocab_size
    assert base.new_tokens == tuple(range(n_plain, n_plain + 7))
    assert base.special.end_of_text < n_plain <= base.special.fim_prefix
    text = "def add(a, b):\n\n    return <|fim_prefix|>\n"
    assert base.tokenizer.encode(text) == load_model(str(plain), threads=1).tokenizer.encode(text)


def test_with_its_adapter_it_is_served_with_infilling(plain: Path, tmp_path: Path) -> None:
    base = open_base(str(plain))
    model = new_adapter(base, Plan(steps=1, rank=4, alpha=8, tokens=False), np.zeros((1, 9), np.uint16))
    torch.manual_seed(0)
    model.set_values({name: value + 0.05 * torch.randn_like(value) for name, value in model.values().items()})
    folder = tmp_path / "adapter"
    model.save(folder)
    write_manifest(folder, Manifest(base.identity, "2026-01-02T03:04:05Z", "shop", None, file_hashes(folder)))
    assert not load_model(str(plain), threads=1).supports_infilling
    served = load_model(str(plain), precision="fp32", threads=1, adapter=folder)
    assert served.supports_infilling and served.supports_explanations
    assert served.tokenizer.special == base.special
    ids = [base.special.file, *base.tokenizer.encode("a.py\n"), base.special.fim_prefix, *base.tokenizer.encode("def ")]
    found = served.completion_cache.advance(ids).logits
    assert found is not None
    with torch.no_grad():
        expected = model.peft(input_ids=torch.tensor([ids])).logits[0, -1].numpy()
    np.testing.assert_allclose(found[-1], expected, rtol=1e-3, atol=1e-3)


def test_before_and_after_the_same_tokens_are_judged(plain: Path, tmp_path: Path) -> None:
    base = open_base(str(plain))
    model = new_adapter(base, Plan(steps=1, rank=4, alpha=8, tokens=False), np.zeros((1, 9), np.uint16))
    folder = tmp_path / "adapter"
    model.save(folder)
    write_manifest(folder, Manifest(base.identity, "2026-01-02T03:04:05Z", "shop", None, file_hashes(folder)))
    models = [load_model(str(plain), precision="fp32", threads=1, adapter=each) for each in (None, folder)]
    text = "def add(a, b):\n    return a + b\n" * 60
    ids = base.tokenizer.encode(text)
    parts = windows_of(models, "shop/add.py", ids)
    assert sum(part.end - part.first for part in parts) == len(ids) - 1  # nothing stands before the first, for one
    n_header = len(file_header("shop/add.py", base.tokenizer, base.special)) + 1
    assert len(parts) > 1 and max(part.end - part.past for part in parts) + n_header == WINDOW_TOKENS
    before, after = (file_bits(each, "shop/add.py", ids, parts) for each in models)
    assert before > 0 and abs(after / before - 1) < 0.2  # a fresh adapter changes nothing but the header


def test_its_general_code_has_no_marker_that_it_does_not_know(plain: Path, tiny_checkpoint: Path) -> None:
    for folder, knows in ((plain, False), (tiny_checkpoint, True)):
        base = open_base(str(folder))
        rows = choosing_rows(base, 100)
        assert base.knows_markers is knows
        assert bool((rows == base.special.fim_prefix).any()) is knows


def test_a_head_of_its_own_cannot_be_taught_markers(plain: Path) -> None:
    import json

    from safetensors.numpy import load_file, save_file

    fields = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(fields | {"tie_word_embeddings": False}))
    tensors = load_file(plain / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].copy()
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="cannot be taught to it; use --base default"):
        open_base(str(plain))
