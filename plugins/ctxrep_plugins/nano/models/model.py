"""What the embedded models have in common, and the folder that each becomes."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ctxrep_plugins.nano.world.photos import BUCKETS
from diffusers import AutoencoderTiny, DiffusionPipeline, ModelMixin
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
    buckets: ClassVar[tuple[tuple[int, int], ...]] = BUCKETS
    """(height, width) in pixels of the world: the first ones, as many as the model knows."""
    zoom: ClassVar[int] = 1
    """Pixels of its pictures, a side, that show one pixel of the world."""
    halved: ClassVar[tuple[str, ...]] = ("transformer",)
    """Parts of the pipeline that are stored in half precision, to keep the wheel small."""

    def see(self, vae: AutoencoderTiny) -> None:
        """Told once before training whose latents it is trained on."""

    @abstractmethod
    def velocity(self, noisy: Tensor, source: Tensor, sigma: Tensor, phrase: Tensor) -> Tensor:
        """Predicted noise minus clean latents; `noisy`, `source` and the result (n, 16, h, w), `sigma` (n,)."""

    @abstractmethod
    def pipeline(self, vae: ModelMixin) -> DiffusionPipeline:
        """The diffusers pipeline around the model."""

    def load(self, folder: Path) -> Any:
        """Takes over the weights of the pipeline in `folder`, and returns its autoencoder."""
        trained = load_pipeline(str(folder), progress=False)
        for name, part in self.named_children():
            part.load_state_dict(getattr(trained, name).state_dict())
        return trained.vae

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


def save(model: Model, vae: ModelMixin, folder: Path) -> None:
    """The pipeline's folder."""
    pipeline = model.pipeline(vae)
    if model.base:
        pipeline.save_config(folder)
    else:
        pipeline.save_pretrained(folder, safe_serialization=True)
    for name in model.halved:
        part = vae if name == "vae" else getattr(model, name)
        copy.deepcopy(part).half().save_pretrained(folder / name, safe_serialization=True)
        _restate(folder / name / "config.json", dtype="float32")
    stated = {
        "sizes": [(w * model.zoom, h * model.zoom) for h, w in model.buckets],
        "call": {"num_inference_steps": model.steps, **model.call},
        "repulsion": model.repulsion,
        **({"base": f"../{model.base}"} if model.base else {}),
    }
    (folder / "ctxrep.json").write_text(encode_json(stated) + "\n", "utf-8")
    _restate(folder / "vae" / "config.json", "block_out_channels", "_name_or_path")


def _restate(config: Path, *dropped: str, **changed: str) -> None:
    """Changes entries that a configuration has, and takes some out. transformers loads a part in the dtype that is
    stated, half precision where it was saved in it, beside those of diffusers in float32; `AutoencoderTiny` writes an
    entry that it warns of when it reads it."""
    if config.exists():
        stated = json.loads(config.read_text("utf-8"))
        kept = {name: changed.get(name, value) for name, value in stated.items() if name not in dropped}
        config.write_text(encode_json(kept) + "\n", "utf-8")
