"""The autoencoder that the embedded models share: an `AutoencoderTiny`, 4x down, 16 channels."""

from __future__ import annotations

from diffusers import AutoencoderTiny

PATCH = 4  # pixels a side
CHANNELS = 16
WIDTH = PATCH * PATCH * 3  # channels that hold a patch untouched


def build() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH, WIDTH, WIDTH),
        decoder_block_out_channels=(WIDTH, WIDTH, WIDTH),
        num_encoder_blocks=(0, 0, 0),
        num_decoder_blocks=(3, 2, 0),
        latent_channels=CHANNELS,
    )
