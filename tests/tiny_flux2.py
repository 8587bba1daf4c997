"""Tiny pipelines of FLUX.2."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from tiny_qwen import tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PixtralImageProcessor,
    PixtralProcessor,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHANNELS = 4  # of the latents
LAYERS = (0, 1, 2)  # of the text encoder, whose states are the text tokens
WIDTH = 16  # of each
OPTIONS = {"max_sequence_length": 48, "text_encoder_out_layers": LAYERS}
CLASSES = (Flux2Pipeline, Flux2KleinPipeline, Flux2KleinKVPipeline, Flux2KleinInpaintPipeline)
TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content[0].text }}[/INST]{% else %}"
    "[SYSTEM_PROMPT]{{ m.content[0].text[:4] }}[/SYSTEM_PROMPT]{% endif %}{% endfor %}"
)
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": max(LAYERS), "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8,
}  # fmt: skip


def pipeline(cls: type, **options: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, words = _mistral() if cls is Flux2Pipeline else _qwen()
        vae = autoencoder()
        transformer = Flux2Transformer2DModel(
            in_channels=4 * CHANNELS, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=WIDTH * len(LAYERS), axes_dims_rope=(4, 4, 4, 4), guidance_embeds=cls is Flux2Pipeline,
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        return cls(FlowMatchEulerDiscreteScheduler(), vae, encoder.eval(), words, transformer.eval(), **options)


def autoencoder() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=4,
    )  # fmt: skip
    vae.decoder.conv_out.weight.data *= 20  # random weights paint almost nothing
    return vae.eval()


def _qwen() -> tuple[Any, Any]:
    words = tokenizer()
    words.chat_template = TURN
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=len(words), **TEXT)), words


def _mistral() -> tuple[Any, Any]:
    """Each byte is a token; padding comes first, as it does there."""
    special = ["<pad>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    special += ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    vocab = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocab, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    words = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left",
        additional_special_tokens=special[3:],
    )  # fmt: skip
    looks = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
    }
    config = Mistral3Config(
        vision_config={"model_type": "pixtral", "image_size": 28, "patch_size": 14, **looks},
        text_config={"model_type": "mistral", "vocab_size": len(words), **TEXT},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
    )
    processor = PixtralProcessor(PixtralImageProcessor(), words, patch_size=14, chat_template=MISTRAL)
    return Mistral3ForConditionalGeneration(config), processor
