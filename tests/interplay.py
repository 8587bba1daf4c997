"""What people use beside a repulsion: how each is switched on, and whether repelled edits go with it.

`docs/interplay.md` has a row for each cell, which a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import cpu_offload
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    FlowMatchHeunDiscreteScheduler,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import TextKVCacheConfig
from diffusers.models.attention_dispatch import attention_backend
from torch import nn

STEPS = 3
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cell:
    """name: as in the first column of the page. outcome: whether repelled edits work or are refused before the run.
    on: switches it on. needs: a distribution that only this cell needs. later: whether it may also come after
    attaching. plain: whether plain edits work with it here: most caches need a pipeline that names its calls, as that
    of Kontext does not. short: whether one block of each kind has to do, for the sake of time. off: takes off what
    stays."""

    name: str
    outcome: Literal["works", "refused"]
    on: Callable[[Any], Any]
    needs: str = ""
    later: bool = False
    plain: bool = True
    short: bool = False
    off: Callable[[Any], Any] = bool


def compiled(pipeline: Any) -> None:
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")


def whole_graph(pipeline: Any) -> None:
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager", fullgraph=True)


def offloaded(pipeline: Any) -> None:
    pipeline.transformer.enable_group_offload(CPU, CPU, "block_level", num_blocks_per_group=1)


def sequentially(pipeline: Any) -> None:
    """As `enable_sequential_cpu_offload` treats the transformer, where the device is a CPU too."""
    cpu_offload(pipeline.transformer, CPU, offload_buffers=True)


def cast(storage: torch.dtype) -> Callable[[Any], None]:
    return lambda pipeline: pipeline.transformer.enable_layerwise_casting(storage, torch.float32)


def cached(config: Any) -> Callable[[Any], None]:
    return lambda pipeline: pipeline.transformer.enable_cache(config)


def with_lora(pipeline: Any) -> None:
    """As `load_lora_weights` leaves it: adapters on the attention of all blocks."""
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        pipeline.transformer.add_adapter(
            LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), "own"
        )


def with_fused_lora(pipeline: Any) -> None:
    with_lora(pipeline)
    pipeline.fuse_lora(adapter_names=["own"])


def with_scaled_lora(pipeline: Any) -> None:
    with_lora(pipeline)
    pipeline.set_adapters("own", 0.5)


def cache_dit(pipeline: Any) -> None:
    import cache_dit as library

    library.enable_cache(pipeline, cache_config=library.DBCacheConfig(Fn_compute_blocks=1))


def without_cache_dit(pipeline: Any) -> None:
    """It also changes the pipeline's class."""
    import cache_dit as library

    library.disable_cache(pipeline)


def torchao(pipeline: Any) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(pipeline.transformer, Int8WeightOnlyConfig())


def gguf(pipeline: Any) -> None:
    """Linear layers as a GGUF file brings them, 8 bits a weight."""
    import gguf as library
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    kind = library.GGMLQuantizationType.Q8_0
    for block in pipeline.transformer.transformer_blocks:
        for name, layer in list(block.attn.named_children()):
            if isinstance(layer, nn.Linear):
                packed = library.quantize(layer.weight.detach().numpy(), kind)
                made = GGUFLinear(layer.in_features, layer.out_features, layer.bias is not None, torch.float32)
                made.weight = GGUFParameter(torch.from_numpy(packed), quant_type=kind)
                made.bias = layer.bias
                setattr(block.attn, name, made)


def bitsandbytes(pipeline: Any) -> None:
    from bitsandbytes.nn import Linear8bitLt

    for block in pipeline.transformer.transformer_blocks:
        for name, layer in list(block.attn.named_children()):
            if isinstance(layer, nn.Linear):
                made = Linear8bitLt(
                    layer.in_features, layer.out_features, layer.bias is not None, has_fp16_weights=False
                )
                made.load_state_dict(layer.state_dict())
                setattr(block.attn, name, made.to("cpu"))


def two_evaluations(pipeline: Any) -> None:
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler()


CELLS = (
    Cell("`torch.compile` of the whole transformer", "works", compiled, short=True),
    Cell("`transformer.compile()`", "works", lambda p: p.transformer.compile(backend="eager"), later=True,
         short=True),
    Cell("`compile_repeated_blocks`", "works", lambda p: p.transformer.compile_repeated_blocks(backend="eager"),
         later=True, short=True),
    Cell("`compile_repeated_blocks(fullgraph=True)`", "works",
         lambda p: p.transformer.compile_repeated_blocks(backend="eager", fullgraph=True), short=True),
    Cell("`transformer.compile(fullgraph=True)`", "refused",
         lambda p: p.transformer.compile(backend="eager", fullgraph=True), plain=False),
    Cell("`torch.compile(fullgraph=True)` of the whole transformer", "refused", whole_graph, plain=False),
    Cell("model offload", "works", lambda p: p.enable_model_cpu_offload(device="cpu"), later=True),
    Cell("sequential offload", "works", sequentially),
    Cell("group offload", "works", offloaded, later=True),
    Cell("layerwise casting, bfloat16 storage", "works", cast(torch.bfloat16), later=True),
    Cell("layerwise casting, fp8 storage", "works", cast(torch.float8_e4m3fn), later=True),
    Cell("bfloat16", "works", lambda p: p.to(torch.bfloat16)),
    Cell("float16", "works", lambda p: p.to(torch.float16)),
    Cell("LoRA loaded", "works", with_lora, needs="peft"),
    Cell("LoRA fused", "works", with_fused_lora, needs="peft"),
    Cell("LoRA with a scale", "works", with_scaled_lora, needs="peft"),
    Cell("FirstBlockCache", "refused", cached(FirstBlockCacheConfig(threshold=0.1)), plain=False),
    Cell("MagCache", "refused", cached(MagCacheConfig(num_inference_steps=STEPS, mag_ratios=torch.ones(STEPS)))),
    Cell("TaylorSeer", "refused", cached(TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1)),
         plain=False),
    Cell("FasterCache", "refused", cached(FasterCacheConfig(current_timestep_callback=lambda: 500,
                                                             tensor_format="BCHW")), plain=False),
    Cell("SeaCache", "refused", cached(SeaCacheConfig()), plain=False),
    Cell("a cache of text keys", "refused", cached(TextKVCacheConfig())),
    Cell("PyramidAttentionBroadcast", "refused", cached(PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, spatial_attention_block_identifiers=("transformer_blocks",),
        current_timestep_callback=lambda: 500))),
    Cell("cache-dit", "refused", cache_dit, needs="cache-dit", off=without_cache_dit),
    Cell("attention backend `_native_math`", "works", lambda p: p.transformer.set_attention_backend("_native_math")),
    Cell("torchao, int8 weights", "works", torchao, needs="torchao"),
    Cell("GGUF, 8 bits", "works", gguf, needs="gguf"),
    Cell("bitsandbytes, 8 bits", "works", bitsandbytes, needs="bitsandbytes"),
    Cell("VAE tiling", "works", lambda p: p.vae.enable_tiling()),
    Cell("VAE slicing", "works", lambda p: p.vae.enable_slicing()),
    Cell("a scheduler with two evaluations a step", "works", two_evaluations),
)  # fmt: skip


@contextmanager
def clean() -> Iterator[None]:
    """What is compiled is forgotten afterwards, and a backend of attention that was set: diffusers keeps it for all."""
    torch.compiler.reset()
    try:
        with attention_backend("native"):
            yield
    finally:
        torch.compiler.reset()
