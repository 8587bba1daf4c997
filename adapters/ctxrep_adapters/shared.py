"""What several families share: scopes, sizes, masks, and where the instruction's words stand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Adapter, InputError, Repulsion, Request, Scope

if TYPE_CHECKING:
    import torch
    from PIL import Image

WORDS = frozenset({"instruction"})
MADE = frozenset({"generated"})
DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
MEGAPIXEL = 1024 * 1024
NEGATIVE = "negative_prompt"
PLACEHOLDER = "\ue000"  # of a private range: in nobody's instruction
CAUTIOUS = Repulsion(scope="middle", strength=0.5, window=0.1, schedule="linear", anchor=True, oversample=1)
"""The default of families that were tried on random weights alone: weaker than what the measured ones take, and no
further candidates."""


def one_list(blocks: str = DOUBLE) -> dict[str, Scope]:
    """Scopes of a transformer with one list of blocks, of that name."""
    return {
        "context": Scope({blocks: WORDS}, "instruction tokens"),
        "middle": Scope(
            {blocks: WORDS | MADE},
            "instruction and generated-image tokens of the middle half of the blocks",
            within={blocks: (0.25, 0.75)},
        ),
        "generated": Scope({blocks: WORDS | MADE}, "instruction and generated-image tokens"),
    }


TWO_LISTS = {
    "context": Scope({DOUBLE: WORDS}, "instruction tokens of the double blocks"),
    "middle": Scope(
        {DOUBLE: WORDS | MADE, SINGLE: WORDS | MADE},
        "instruction and generated-image tokens of the later double and the earlier single blocks",
        within={DOUBLE: (0.5, 1.0), SINGLE: (0.0, 0.5)},
    ),
    "generated": Scope(
        {DOUBLE: WORDS, SINGLE: WORDS | MADE},
        "instruction tokens of all blocks, generated-image tokens of the single ones",
    ),
}
"""Scopes of a transformer with double and single blocks."""


def first_frame(call: Mapping[str, Any]) -> int:
    """How many image tokens are generated, where the first of the position ids is 0 for them: (tokens, axes)."""
    ids = call["img_ids"]
    ids = ids[0] if ids.ndim == 3 else ids
    return int((ids[:, 0] == 0).sum())


def by_area(width: int, height: int, unit: int) -> tuple[int, int]:
    """Sides in multiples of `unit`, in about that aspect, of a megapixel at most and as nearly as can be."""
    scale = (MEGAPIXEL / (width * height)) ** 0.5
    wide, high = (max(1, round(side * scale / unit)) for side in (width, height))
    while wide * high * unit**2 > MEGAPIXEL and max(wide, high) > 1:
        wide, high = (wide - 1, high) if wide >= high else (wide, high - 1)
    return wide * unit, high * unit


def resized(request: Request) -> Image.Image:
    """The picture in the size of the edit, so that nothing of it is cropped later."""
    from PIL.Image import Resampling

    return request.image.resize(request.size, Resampling.LANCZOS)


def all_resized(adapter: Adapter, pipeline: Any, request: Request) -> list[Image.Image]:
    """The picture in the size of the edit, and each further one in the size that the pipeline would edit it at."""
    others = (picture.resize(adapter.size(pipeline, *picture.size)) for picture in request.references)
    return [resized(request), *others]


def of_its_own_size(adapter: Adapter, pipeline: Any, request: Request) -> Image.Image:
    """The picture for a pipeline that takes no size, but makes one of its aspect. Raises InputError for another one."""
    if adapter.size(pipeline, *request.size) == tuple(request.size):
        return resized(request)
    if adapter.size(pipeline, *request.image.size) == tuple(request.size):
        return request.image
    width, height = adapter.size(pipeline, *request.image.size)
    raise InputError(
        f"{type(pipeline).__name__} chooses its size by the picture's aspect, {width} x {height} here, and cannot make "
        f"{request.size[0]} x {request.size[1]}: leave width and height out."
    )


def mask_of(pipeline: Any, request: Request) -> Image.Image:
    """The mask in the size of the edit. Raises InputError where there is none."""
    if request.mask is None:
        raise InputError(f"{type(pipeline).__name__} edits inside a mask and was given none: give mask=.")
    return request.mask.resize(request.size)


def asked(request: Request, image: Any, *, sized: bool = True) -> dict[str, Any]:
    """The arguments that nearly all pipelines take by these names. sized: width and height too."""
    out: dict[str, Any] = {
        "image": image,
        "prompt": request.instruction,
        "num_images_per_prompt": len(request.generators),
        "generator": list(request.generators),
    }
    if sized:
        out["width"], out["height"] = request.size
    if request.steps is not None:
        out["num_inference_steps"] = request.steps
    return out


def cache_rows(cache: Any, rows: Sequence[int], batch: int) -> Any:
    """A cache of keys and values, objects in lists in an object, for these rows of a batch. One that was filled for
    fewer has the same in each row, as all of them read one source and one instruction."""
    if hasattr(cache, "ndim"):
        return cache[list(rows)] if len(cache) == batch else cache[:1].expand(len(rows), *cache.shape[1:])
    if isinstance(cache, list):
        return [cache_rows(entry, rows, batch) for entry in cache]
    if not hasattr(cache, "__dict__"):
        return cache
    cut = copy(cache)
    vars(cut).update({name: cache_rows(value, rows, batch) for name, value in vars(cache).items()})
    return cut


class CachedSource(Adapter):
    """For families whose first step fills a cache of keys and values of the source, which the later ones read."""

    def fills(self, call: Mapping[str, Any]) -> bool:
        return bool(call.get("kv_cache_mode") == "extract")

    def rows(self, call: Mapping[str, Any], rows: Sequence[int], batch: int) -> dict[str, Any]:
        some = super().rows(call, rows, batch)
        if call.get("kv_cache_mode") == "cached":
            some["kv_cache"] = cache_rows(call["kv_cache"], rows, batch)
        return some


def check_guidance(
    pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any], scale: str, above: float = 1.0,
    alone: bool = True,
) -> None:  # fmt: skip
    """Raises InputError for a negative prompt without guidance, or the scale of one that is not there.

    scale: the argument that switches classifier-free guidance on where it is `above`. alone: whether it does without a
    negative prompt too; else the one for another text encoder does not count. Other parameters are those of
    `Adapter.check_call`.
    """
    name = type(pipeline).__name__
    taken = inspect.signature(type(pipeline).__call__).parameters.get(scale)
    value = arguments.get(scale, getattr(taken, "default", None))
    negative = [option for option, said in options.items() if option.startswith(NEGATIVE) and said is not None]
    if negative and value is not None and value <= above:
        raise InputError(
            f"{negative[0]} has no effect: {name} follows it where {scale} is above {above:g}, and it is {value:g}. "
            f"Give {scale}, or leave {negative[0]} out."
        )
    against = any(arguments.get(option) is not None for option in (NEGATIVE, f"{NEGATIVE}_embeds"))
    if negative and not alone and not against:
        raise InputError(
            f"{negative[0]} has no effect: {name} guides where there is a negative_prompt. Give one, or leave "
            f"{negative[0]} out."
        )
    asked = options.get(scale)
    if not alone and asked is not None and asked > above and not against:
        raise InputError(
            f"{scale} has no effect: {name} guides away from a negative prompt, and there is none. Give "
            f"negative_prompt, or leave {scale} out."
        )


def check_embedded(pipeline: Any, options: Mapping[str, Any]) -> None:
    """Raises InputError for a guidance_scale that the transformer does not read."""
    if options.get("guidance_scale") is not None and not pipeline.transformer.config.guidance_embeds:
        raise InputError(
            f"guidance_scale has no effect: the transformer of this {type(pipeline).__name__} was not distilled to "
            "read one (guidance_embeds is off). Leave it out."
        )


def words_before(tail: int, words: int) -> Callable[[Mapping[str, Any]], torch.Tensor]:
    """Marks the `words` text tokens before the last `tail` ones, however many stand before them, such as those of a
    picture. Padding, if any, comes after all of them."""
    import torch

    def mask(call: Mapping[str, Any]) -> torch.Tensor:
        places = torch.arange(call["encoder_hidden_states"].shape[1], device="cpu")  # (tokens,)
        real = call.get("encoder_hidden_states_mask")  # (batch, tokens)
        end = (len(places) if real is None else int(real[-1].sum())) - tail
        return (places >= end - words) & (places < end)

    return mask


def words_in_turn(
    tokenizer: Any, render: Callable[[str], str], prompt: str, length: int, **options: Any
) -> torch.Tensor:
    """Marks the tokens of `prompt` in a text that is padded to `length` of them: bool (length,).

    render: what the pipeline makes of an instruction before it is tokenized, such as a turn of a chat. options: of the
    tokenizer.
    """
    text = render(prompt)
    before, _, after = render(PLACEHOLDER).partition(PLACEHOLDER)
    tokens = tokenizer(
        text, padding="max_length", max_length=length, truncation=True, return_offsets_mapping=True,
        return_tensors="pt", **options,
    )  # fmt: skip
    first, last = tokens["offset_mapping"][0].unbind(1)  # (length,), characters of the text
    mask: torch.Tensor = (last > len(before)) & (first < len(text) - len(after)) & (last > first)
    return mask


def of_packed(pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Latents in tokens of 2 x 2, as FLUX.1 packs them, as its autoencoder decodes them: (n, channels, h, w)."""
    spread: torch.Tensor = pipeline._unpack_latents(latents, size[1], size[0], pipeline.vae_scale_factor)
    return of_scaled(pipeline, spread)


def of_scaled(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Scaled and shifted latents as the autoencoder decodes them."""
    about = pipeline.vae.config
    return (latents / about.scaling_factor + (about.shift_factor or 0)).to(pipeline.vae.dtype)


class VideoAutoencoder(Adapter):
    """For families whose autoencoder is one of videos, (n, 3, frames, h, w): a picture is one frame."""

    def encode(self, pipeline: Any, pictures: torch.Tensor) -> torch.Tensor:
        return super().encode(pipeline, pictures.unsqueeze(2))

    def decode(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        return super().decode(pipeline, latents)[:, :, 0]
