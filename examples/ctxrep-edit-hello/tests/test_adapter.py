"""The adapter, on its pipeline with random weights."""

from typing import Any

import pytest
import torch
from ctxrep_edit_hello.adapter import HelloAdapter
from ctxrep_edit_hello.pipeline import HelloEditPipeline, HelloTransformer
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler

from ctxrep_edit.testing import AdapterConformance


def tiny() -> HelloEditPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sides = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
        blocks = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
        vae = AutoencoderTiny(**sides, **blocks, latent_channels=4).eval()
        vae.decoder.layers[-1].weight.data *= 6  # random weights paint almost nothing
        return HelloEditPipeline(vae, HelloTransformer().eval(), FlowMatchEulerDiscreteScheduler())


class TestAdapter(AdapterConformance):
    @pytest.fixture
    def pipeline(self) -> Any:
        return tiny()

    @pytest.fixture
    def adapter(self) -> Any:
        return HelloAdapter()
