"""What others run a GPT-2 with, each driven the best way it offers: the cache kept, and only new tokens fed.

Nothing here is needed for serving, nor part of any extra: `pip install ctranslate2 llama-cpp-python gguf` adds them,
best in an environment of their own. Where a library is not installed, its rows say so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from server.lm.checkpoint import Checkpoint, open_checkpoint


class Transformers:
    """`GPT2LMHeadModel.generate` in fp32, its cache handed back to it."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self._torch, self._transformers = torch, transformers
        model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self._model = model.eval()
        self._cache = transformers.DynamicCache()

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        """See `Writer.write`."""
        torch = self._torch
        n_held = self._cache.get_seq_length()
        if n_cached == 0:
            self._cache = self._transformers.DynamicCache()
        elif n_cached < n_held:
            self._cache.crop(n_cached - n_held)
        ids = torch.tensor([list(token_ids)])
        with torch.inference_mode():
            written = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                past_key_values=self._cache,
                max_new_tokens=n_new,
                do_sample=False,
                pad_token_id=0,
            )
        return [int(token_id) for token_id in written[0, len(token_ids) :]]


class LlamaCpp:
    """llama.cpp through its C interface."""

    def __init__(self, folder: Path, kind: Literal["F32", "Q8_0"], threads: int, *, uses_flash_attention: bool) -> None:
        import llama_cpp

        self._api = llama_cpp
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept alive while it is used
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        checkpoint = open_checkpoint(folder)
        n_positions = checkpoint.config.n_positions
        self._vocab_size = checkpoint.config.vocab_size
        model_settings = llama_cpp.llama_model_default_params()
        model_settings.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(_gguf(checkpoint, kind)).encode(), model_settings)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = n_positions
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = int(uses_flash_attention)
        if kind == "F32":  # exact: the cache, which is fp16 by default, must be too
            settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
        self._context = self._model and llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            raise ValueError("llama.cpp does not load the model")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(n_positions, 0, 1)

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        """See `Writer.write`."""
        self._api.llama_memory_seq_rm(self._memory, 0, n_cached, -1)
        written = [self._best_after(token_ids[n_cached:], n_cached)]
        while len(written) < n_new:
            written.append(self._best_after(written[-1:], len(token_ids) + len(written) - 1))
        return written

    def _best_after(self, token_ids: Sequence[int], n_past: int) -> int:
        """Feeds tokens at the positions from `n_past`; the best token after the last."""
        batch, n_tokens = self._batch, len(token_ids)
        batch.n_tokens = n_tokens
        for at, token_id in enumerate(token_ids):
            batch.token[at], batch.pos[at] = token_id, n_past + at
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
            batch.logits[at] = at == n_tokens - 1
        status = self._api.llama_decode(self._context, batch)
        if status:
            raise ValueError(f"llama_decode ends with status {status}")
        logits = self._api.llama_get_logits_ith(self._context, n_tokens - 1)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocab_size,)).argmax())


class CTranslate2:
    """CTranslate2's generator. Its cache holds one fixed prompt; what was fed behind that is fed again."""

    def __init__(self, folder: Path, compute_type: Literal["float32", "int8"], threads: int) -> None:
        import ctranslate2

        converted = _ctranslate2(open_checkpoint(folder))
        self._generator = ctranslate2.Generator(
            str(converted), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=threads
        )
        self._n_fixed = 0

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        """See `Writer.write`. The first `n_cached` that follows a cold prompt becomes the fixed one."""
        if n_cached == 0 or self._n_fixed == 0:
            self._n_fixed = n_cached
        tokens = [_token(token_id) for token_id in token_ids]
        fixed: dict[str, Any] = {"static_prompt": tokens[: self._n_fixed]} if self._n_fixed else {}
        (result,) = self._generator.generate_batch(
            [tokens[self._n_fixed :]],
            include_prompt_in_result=False,
            max_length=n_new,
            min_length=n_new,
            end_token=[],
            **fixed,
        )
        return [int(token_id) for token_id in result.sequences_ids[0]]


def _gguf(checkpoint: Checkpoint, kind: Literal["F32", "Q8_0"]) -> Path:
    """The weights in llama.cpp's format, written on the first call."""
    import gguf
    import llama_cpp

    exact, path = checkpoint.folder / "F32.gguf", checkpoint.folder / f"{kind}.gguf"
    if not exact.exists():
        config = checkpoint.config
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
        writer = gguf.GGUFWriter(exact, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GPT2])
        writer.add_block_count(config.n_layer)
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_feed_forward_length(config.n_inner)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        # It does not load without a vocabulary, though nobody asks it for text.
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list([_token(token_id) for token_id in range(config.vocab_size)])
        writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
        writer.add_token_merges(["t 0"])
        for name, stored in checkpoint.weights.items():
            values = np.ascontiguousarray((stored.T if name.startswith("h.") else stored).astype(np.float32))
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    if not path.exists():
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
        if llama_cpp.llama_model_quantize(str(exact).encode(), str(path).encode(), ctypes.byref(settings)):
            raise ValueError("llama.cpp does not quantise the weights")
    return path


def _ctranslate2(checkpoint: Checkpoint) -> Path:
    """The weights in CTranslate2's format, written on the first call."""
    from ctranslate2.specs import common_spec, transformer_spec

    folder = checkpoint.folder / "ctranslate2"
    if (folder / "model.bin").exists():
        return folder
    config, weights = checkpoint.config, checkpoint.weights
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        config.n_layer, config.n_head, activation=common_spec.Activation.GELUTanh
    )

    def norm(target: Any, name: str) -> None:
        target.gamma, target.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def linear(target: Any, name: str) -> None:
        target.weight, target.bias = np.ascontiguousarray(weights[f"{name}.weight"].T), weights[f"{name}.bias"]

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = decoder.projection.weight = weights["wte.weight"]
    decoder.position_encodings.encodings = weights["wpe.weight"]
    norm(decoder.layer_norm, "ln_f")
    for number, layer in enumerate(decoder.layer):
        norm(layer.self_attention.layer_norm, f"h.{number}.ln_1")
        linear(layer.self_attention.linear[0], f"h.{number}.attn.c_attn")
        linear(layer.self_attention.linear[1], f"h.{number}.attn.c_proj")
        norm(layer.ffn.layer_norm, f"h.{number}.ln_2")
        linear(layer.ffn.linear_0, f"h.{number}.mlp.c_fc")
        linear(layer.ffn.linear_1, f"h.{number}.mlp.c_proj")
    spec.register_vocabulary([_token(token_id) for token_id in range(config.vocab_size)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = _token(0)
    spec.validate()
    spec.optimize()
    folder.mkdir()
    spec.save(str(folder))
    return folder


def _token(token_id: int) -> str:
    """A text for a token; the libraries that want one need it to differ from the others."""
    return f"t{token_id}"
