"""Small things to test plugins on: a real pipeline with random weights, pictures, a set of edits, a case to judge.

All are made anew at each call, always with the same values, and without touching torch's own generator.
"""

from __future__ import annotations

import string
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from ctxrep_edit.faithfulness.case import Case
from ctxrep_edit.imaging import to_tensor
from ctxrep_edit.plugins.contracts import Verdict
from ctxrep_edit.results.edit import Edit
from ctxrep_edit.results.editset import EditSet

INSTRUCTION = "change the light"
OTHER_INSTRUCTION = "light the change"  # as many tokens, whatever the tokenizer
SHORT_INSTRUCTION = "it"
LENGTH = 16  # text tokens of the tiny pipeline
CHANNELS = 4  # of its latents, which are a quarter of the picture a side
WIDTH = 32  # of its tokens and of what its text encoders give
WORDS = ["a", "add", "change", "frame", "it", "light", "make", "night", "sticker", "style", "the", "to"]


def tiny_pipeline(*, guidance_embeds: bool = False) -> FluxKontextPipeline:
    """A `FluxKontextPipeline` as small as its classes allow, on the CPU, in float32, with random weights.

    It takes pictures of any size that 8 divides; with 32 x 32 pixels and a few steps a call takes some hundredths of a
    second. Its instructions may have 16 tokens: call it with `max_sequence_length=16`. guidance_embeds: as in FLUX.1
    Kontext [dev].
    """
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip, t5 = _clip_tokenizer(), _t5_tokenizer()
        return FluxKontextPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=_autoencoder(),
            text_encoder=_clip_encoder(clip),
            tokenizer=clip,
            text_encoder_2=_t5_encoder(t5),
            tokenizer_2=t5,
            transformer=_transformer(guidance_embeds),
        )


def tiny_picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """A smooth RGB picture; another seed gives another one."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator, device="cpu")
    pixels = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]  # (3, h, w)
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def pictures(n: int = 3, width: int = 64, height: int = 64) -> Tensor:
    """n different pictures: (n, 3, h, w) in [0, 1]."""
    return torch.cat([to_tensor(tiny_picture(width, height, seed)) for seed in range(n)])


def edit_set(n: int = 3, *, checked: bool = True) -> EditSet:
    """A finished set of n edits of 64 x 48 pixels. checked: with verdicts, the second of them not kept."""

    def verdicts(i: int) -> dict[str, Verdict]:
        value, word = (0.3, "over") if i == 1 else (0.012, "within")
        reason = f"LPIPS outside the edit is {value:.3f}, {word} 0.060 (round trip 0.010 + 0.05)"
        details = {"region": "estimated", "floor": 0.01}
        verdict = Verdict(i != 1, "LPIPS outside the edit", value, 0.06, reason, details)
        return {"preservation": verdict} if checked else {}

    return EditSet(
        instruction=INSTRUCTION,
        source=tiny_picture(64, 48),
        edits=tuple(Edit(tiny_picture(64, 48, 1 + i), 7 + i, i, verdicts(i), 1.0) for i in range(n)),
        recipe={"model": "tiny", "n": n, "size": [64, 48], "strategy": "contextual"},
        contextual_vendi=(1.1, 1.2),
        seconds=0.5,
    )


def case(n: int = 3, *, masked: bool = False, first_is_plain: bool = False) -> Case:
    """A case of n edits of 64 x 64 pixels, each with another patch painted over, in another colour.

    masked: the caller allowed the edit in the left half. The round trip is the source, slightly darker.
    """
    source = pictures(1)
    edits = source.repeat(n, 1, 1, 1)  # (n, 3, 64, 64)
    for i in range(n):
        at, side = 4 + 5 * i % 24, 16 + 4 * i % 24
        edits[i, :, at : at + side, at : at + side] = torch.tensor([0.9, 0.5, 0.1], device="cpu").roll(i)[:, None, None]
    mask = torch.zeros(64, 64, dtype=torch.bool, device="cpu")
    mask[:, :32] = True
    return Case(source, edits, mask if masked else None, INSTRUCTION, first_is_plain, lambda: source * 0.98)


def _autoencoder() -> AutoencoderTiny:
    made = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=CHANNELS,
    ).eval()
    made.decoder.layers[-1].weight.data *= 6  # random weights paint almost nothing
    return made


def _transformer(guidance_embeds: bool) -> FluxTransformer2DModel:
    made = FluxTransformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=guidance_embeds,
    ).eval()
    made.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
    return made


def _clip_tokenizer() -> CLIPTokenizer:
    letters = string.ascii_lowercase
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    vocabulary: dict[str, int] = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LENGTH)


def _t5_tokenizer() -> T5Tokenizer:
    """Each of WORDS is a token; others are spelt."""
    pieces: list[Any] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -12.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [(letter, -14.0) for letter in string.ascii_lowercase]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=LENGTH)


def _clip_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    made: CLIPTextModel = CLIPTextModel(config).eval()  # type: ignore[no-untyped-call]
    return made


def _t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=16, d_ff=WIDTH, num_layers=1, num_heads=2, dropout_rate=0.0,
        is_encoder_decoder=False,
    )  # fmt: skip
    made: T5EncoderModel = T5EncoderModel(config).eval()  # type: ignore[no-untyped-call]
    return made
