"""The autoencoder of `qwen-nano`: an `AutoencoderKLQwenImage` that sees a megapixel as the 64 pixels of the world.

Four outer levels average (and repeat) pixels, so that a picture of 1024 x 1024 is one of 64 x 64; the two inner ones
hold what an `AutoencoderTiny` encodes, so that the latents are its own. Where nothing is to be learned the weights are
written down: residual blocks that add nothing; a channel that is constant and huge, so that the last normalisation is a
division by a constant; and behind it an activation that has no effect, as silu(x) is x to a thousandth where x is 9 or
more.
"""

from __future__ import annotations

import torch
from ctxrep_plugins.nano.models.autoencoder import CHANNELS, WIDTH
from diffusers import AutoencoderKLQwenImage, AutoencoderTiny
from torch import Tensor, nn

BASE = 4  # channels behind the first convolution: the colours and a constant
LEVELS = (1, 2, 2, 2, 5, 13, 8)  # times as many from 1024 to 16 pixels a side
OUTER = 4  # levels that only average
ZOOM = 2**OUTER  # pixels of a picture a pixel of the world
HUGE = 6e4  # the constant channel; the error that is left is a square of values in [0, 1] by the square of it
LIFT = 9.0  # of the colours before the decoder's last activation
RAISE = 20.0  # of the latents, which are 4 at most, before the encoder's
CONSTANT = BASE - 1  # its place


def build(vae: AutoencoderTiny) -> AutoencoderKLQwenImage:
    """With the encoder of `vae`, and a decoder whose inner levels are not trained."""
    made = AutoencoderKLQwenImage(
        base_dim=BASE,
        z_dim=CHANNELS,
        dim_mult=list(LEVELS),
        num_res_blocks=1,
        temperal_downsample=[False] * (len(LEVELS) - 1),
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1 / vae.config.scaling_factor] * CHANNELS,
    )
    with torch.no_grad():
        _write_encoder(made, vae)
        _write_outer_decoder(made)
    return made.eval()


def inner(vae: AutoencoderKLQwenImage, latents: Tensor) -> Tensor:
    """What `latents`, (n, 16, h, w), show before the outer levels repeat each pixel: (n, 3, 4 * h, 4 * w)."""
    decoder = vae.decoder
    x = decoder.conv_in(vae.post_quant_conv(latents.unsqueeze(2)))
    x = decoder.mid_block(x)
    for block in decoder.up_blocks[:2]:
        x = block(x)
    for block in decoder.up_blocks[2].resnets:
        x = block(x)
    shown = decoder.up_blocks[2].upsamplers[0].resample[1]
    colours: Tensor = torch.einsum("oc,nchw->nohw", shown.weight[:3, :, 1, 1], x[:, :, 0])
    return (colours + shown.bias[:3, None, None]) * 2 - 1


def learned(vae: AutoencoderKLQwenImage) -> list[nn.Parameter]:
    """What of the decoder is trained: all but the outer levels."""
    decoder = vae.decoder
    parts = [decoder.conv_in, decoder.mid_block, *decoder.up_blocks[:2], decoder.up_blocks[2].resnets]
    return [p for part in parts for p in part.parameters()]


def _silence(module: nn.Module) -> None:
    """Has the convolutions, attention and residual blocks in `module` say 0, but for what is written afterwards."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            layer.weight.zero_()
            layer.bias.zero_()


def _pass(block: nn.Module, channels: int) -> None:
    """A residual block that leaves its first `channels` as they are."""
    if isinstance(block.conv_shortcut, nn.Conv3d):
        for c in range(channels):
            block.conv_shortcut.weight[c, c] = 1


def _write_encoder(made: AutoencoderKLQwenImage, vae: AutoencoderTiny) -> None:
    encoder, last = made.encoder, vae.encoder.layers[-1]
    _silence(encoder)
    for c in range(3):  # [-1, 1] to [0, 1]
        encoder.conv_in.weight[c, c, -1, 1, 1] = encoder.conv_in.bias[c] = 0.5
    encoder.conv_in.bias[CONSTANT] = HUGE
    for level in range(len(LEVELS) - 1):
        blocks, down = encoder.down_blocks[2 * level], encoder.down_blocks[2 * level + 1].resample[1]
        colours = 3 * 4 ** max(0, level - OUTER)
        _pass(blocks, colours + 1)
        for c in range(colours):
            if level < OUTER:
                down.weight[c, c, :2, :2] = 0.25
                continue
            for dy in range(2):
                for dx in range(2):
                    down.weight[4 * c + 2 * dy + dx, c, dy, dx] = 1
        down.weight[colours * (1 if level < OUTER else 4), colours, 0, 0] = 1
    latents = encoder.down_blocks[-1].conv_shortcut
    latents.weight[:CHANNELS, :WIDTH, 0, 0, 0] = last.weight[:, :, 1, 1]
    latents.bias[:CHANNELS] = last.bias + RAISE
    latents.weight[CHANNELS, WIDTH] = 1
    encoder.norm_out.gamma.fill_(HUGE / encoder.norm_out.scale)
    for c in range(CHANNELS):
        encoder.conv_out.weight[c, c, -1, 1, 1] = 1
        encoder.conv_out.bias[c] = -RAISE
    made.quant_conv.weight.zero_()
    made.quant_conv.bias.zero_()
    made.quant_conv.bias[CHANNELS:] = -30  # the logarithm of the variance: it is certain
    for c in range(CHANNELS):
        made.quant_conv.weight[c, c] = 1


def _write_outer_decoder(made: AutoencoderKLQwenImage) -> None:
    decoder = made.decoder
    for c in range(CHANNELS):
        made.post_quant_conv.weight[c] = 0
        made.post_quant_conv.weight[c, c] = 1
    made.post_quant_conv.bias.zero_()
    shown = decoder.up_blocks[2].upsamplers[0].resample[1]
    _silence(shown)
    for c in range(3):  # of the inner features the first three are the colours
        shown.weight[c, c, 1, 1] = 1
    shown.bias[CONSTANT] = HUGE
    for block in decoder.up_blocks[3:]:
        _silence(block)
    for block in decoder.up_blocks[3:-1]:
        _pass(block.resnets[0], BASE)
        for c in range(BASE):
            block.upsamplers[0].resample[1].weight[c, c, 1, 1] = 1
    last = decoder.up_blocks[-2].upsamplers[0].resample[1]
    last.bias[:CONSTANT] = LIFT
    decoder.norm_out.gamma.fill_(HUGE / decoder.norm_out.scale)
    _silence(decoder.conv_out)
    for c in range(CONSTANT):  # [0, 1] to [-1, 1]
        decoder.conv_out.weight[c, c, -1, 1, 1] = 2
        decoder.conv_out.bias[c] = -2 * LIFT - 1
