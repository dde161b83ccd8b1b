"""A compiled model computes what the model does; on a GPU it is compiled for speed."""

from __future__ import annotations

import pytest
import torch
from test_accelerator import batch, gradients, model  # noqa: F401 (fixtures)
from torch._dynamo.testing import CompileCounterWithBackend

from finetune.pretrain.accelerator import compile_model, uncompile_model

pytestmark = pytest.mark.slow


def test_a_compiled_model_gives_the_same_and_its_blocks_share_their_code(model, batch):  # noqa: F811
    expected = gradients(model, batch)
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    compile_model(model, backend=graphs)
    torch.testing.assert_close(gradients(model, batch), expected)
    assert graphs.frame_count == 2, "one for all blocks, one for the loss"
    assert "transformer.h.0.ln_1.weight" in model.state_dict()
    uncompile_model(model)
    torch.testing.assert_close(gradients(model, batch), expected)
    assert graphs.frame_count == 2
