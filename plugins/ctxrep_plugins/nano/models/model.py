"""What the embedded models have in common, and the folder that each becomes."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ctxrep_plugins.nano.world.photos import BUCKETS
from diffusers import AutoencoderTiny, DiffusionPipeline
from torch import Tensor, nn

from ctxrep_edit import encode_json, load_pipeline

SHIFT = 3.0  # of the timesteps, in training as in sampling
STEPS = 12  # of the sampler, where a model says nothing else


class Model(nn.Module):
    """A transformer and its text encoders, all that is trained together."""

    transformer: Any
    steps: ClassVar[int] = STEPS
    """Of the sampler."""
    base: ClassVar[str] = ""
    """The embedded model whose other parts it shares, so that its own folder holds the transformer alone."""
    repulsion: ClassVar[Mapping[str, object]] = {}
    """What tuning found better than the family's defaults."""
    call: ClassVar[Mapping[str, object]] = {}
    """Arguments of the pipeline's call, beside the number of steps."""

    @abstractmethod
    def velocity(self, noisy: Tensor, source: Tensor, sigma: Tensor, phrase: Tensor) -> Tensor:
        """Predicted noise minus clean latents; `noisy`, `source` and the result (n, 16, h, w), `sigma` (n,)."""

    @abstractmethod
    def pipeline(self, vae: AutoencoderTiny) -> DiffusionPipeline:
        """The diffusers pipeline around the model."""

    def load(self, folder: Path) -> AutoencoderTiny:
        """Takes over the weights of the pipeline in `folder`, and returns its autoencoder."""
        trained = load_pipeline(str(folder), progress=False)
        for name, part in self.named_children():
            part.load_state_dict(getattr(trained, name).state_dict())
        vae: AutoencoderTiny = trained.vae
        return vae

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer's blocks."""
        for name, blocks in self.transformer.named_children():
            if name.endswith("transformer_blocks"):
                yield from blocks.children()

    def matrices(self) -> Iterator[nn.Parameter]:
        """The weights of attention and feed-forward layers inside the blocks."""
        for block in self.blocks():
            for name, parameter in block.named_parameters():
                if parameter.ndim == 2 and not name.startswith("norm"):
                    yield parameter


def save(model: Model, vae: AutoencoderTiny, folder: Path) -> None:
    """The pipeline's folder, the transformer in half precision to keep the wheel small."""
    pipeline = model.pipeline(vae)
    if model.base:
        pipeline.save_config(folder)
    else:
        pipeline.save_pretrained(folder, safe_serialization=True)
        _mend(folder / "vae" / "config.json")
    half = type(model.transformer).from_config(model.transformer.config)
    half.load_state_dict(model.transformer.state_dict())
    half.half().save_pretrained(folder / "transformer", safe_serialization=True)
    stated = {
        "sizes": [(w, h) for h, w in BUCKETS],
        "call": {"num_inference_steps": model.steps, **model.call},
        "repulsion": model.repulsion,
        **({"base": f"../{model.base}"} if model.base else {}),
    }
    (folder / "ctxrep.json").write_text(encode_json(stated) + "\n", "utf-8")


def _mend(config: Path) -> None:
    """AutoencoderTiny writes one entry that it warns of when it reads it."""
    entries = json.loads(config.read_text("utf-8"))
    entries.pop("block_out_channels", None)
    entries.pop("_name_or_path", None)
    config.write_text(encode_json(entries) + "\n", "utf-8")
