"""Begins `qwen-nano` with the weights of `kontext-nano`, whose blocks do nearly the same arithmetic.

Double blocks go over as they are. A single block becomes a double one whose streams share weights; its feed-forward
layer, which read what attention read, then reads what attention wrote. What the pooled text did to every block is kept
as its mean over all phrases. The words are learned anew: the encoder is shown what the T5 says of them.
"""

from __future__ import annotations

import torch
from ctxrep_plugins.nano.models.kontext import Kontext
from ctxrep_plugins.nano.models.qwen import Qwen
from torch import Tensor, nn

BATCH = 48  # phrases
PEAK_RATE = 3e-3
TAIL = 5  # tokens behind the words; the T5's end and its padding are their pattern
LONGEST = 8  # words of a phrase
ELSEWHERE = 0.2  # weight of the tokens for which the T5 has none of its own, such as those of the picture
PROJECTIONS = ("to_q", "to_k", "to_v")


@torch.no_grad()
def take_over(model: Qwen, teacher: Kontext) -> None:
    """The weights of the transformer of `teacher`."""
    ours, theirs = model.transformer, teacher.transformer
    _copy(ours.img_in, theirs.x_embedder)
    _copy(ours.txt_in, theirs.context_embedder)
    _copy(ours.norm_out.linear, theirs.norm_out.linear)
    _copy(ours.proj_out, theirs.proj_out)
    time, told = ours.time_text_embed.timestep_embedder, theirs.time_text_embed
    _copy(time.linear_1, told.timestep_embedder.linear_1)
    _copy(time.linear_2, told.timestep_embedder.linear_2)
    pooled = teacher.text_encoder(teacher.get_buffer("clip_ids")).pooler_output
    time.linear_2.bias.add_(told.text_embedder(pooled).mean(0))
    double = len(theirs.transformer_blocks)
    for block, source in zip(ours.transformer_blocks[:double], theirs.transformer_blocks, strict=True):
        _take_double(block, source)
    for block, source in zip(ours.transformer_blocks[double:], theirs.single_transformer_blocks, strict=True):
        _take_single(block, source)


def learn_words(model: Qwen, teacher: Kontext, sources: Tensor, steps: int, seed: int) -> None:
    """Trains the text encoder alone to say what the teacher's T5 says. sources: latents to look at, (n, 16, h, w)."""
    ids = teacher.get_buffer("t5_ids")  # (phrases, LENGTH)
    with torch.no_grad():
        scale = teacher.text_encoder_2.encoder.final_layer_norm.weight
        said = teacher.text_encoder_2(ids)[0] / scale  # (phrases, LENGTH, WIDTH), root mean square 1
        model.transformer.txt_norm.weight.copy_(scale)
        padding = said[ids == 0].mean(0)
        pieces = teacher.tokenizer_2.convert_ids_to_tokens(range(len(teacher.tokenizer_2)))
        means = {piece.lstrip("▁"): said[ids == i].mean(0) for i, piece in enumerate(pieces) if (ids == i).any()}
        rows = model.text_encoder.get_input_embeddings().weight
        tokens = model.tokenizer.convert_ids_to_tokens(range(len(rows)))
        generator = torch.Generator().manual_seed(seed)
        for row, token in zip(rows, tokens, strict=True):
            noise = torch.randn(row.shape, generator=generator).to(ids.device)
            row.copy_(means.get(token.lstrip("Ġ"), padding) + 0.1 * noise)
    optimiser = torch.optim.AdamW(model.text_encoder.parameters(), PEAK_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = PEAK_RATE * min(1.0, (step + 1) / 10, (steps - step) / (0.6 * steps))
        phrases = torch.randint(0, len(ids), (BATCH,), generator=generator).to(ids.device)
        seen = sources[torch.randint(0, len(sources), (BATCH,), generator=generator)].float().to(ids.device)
        words, real = model.words(model.looks(seen), phrases)
        first = words.shape[1] - LONGEST - TAIL
        aim, weight = padding.expand_as(words).clone(), ELSEWHERE * real
        for row, phrase in enumerate(phrases.tolist()):
            count = int((ids[phrase] != 0).sum()) - 1 + TAIL  # its words, and what follows them
            aim[row, first : first + count] = said[phrase, :count]
            weight[row, first : first + count] = 1
        error = (words - aim).square().mean(-1)  # (BATCH, tokens)
        optimiser.zero_grad()
        ((error * weight).sum() / weight.sum()).backward()
        optimiser.step()


def _copy(ours: nn.Linear, theirs: nn.Linear) -> None:
    ours.weight.copy_(theirs.weight)
    ours.bias.copy_(theirs.bias)


def _take_double(block: nn.Module, source: nn.Module) -> None:
    _copy(block.img_mod[1], source.norm1.linear)
    _copy(block.txt_mod[1], source.norm1_context.linear)
    block.attn.load_state_dict(source.attn.state_dict())
    block.img_mlp.load_state_dict(source.ff.state_dict())
    block.txt_mlp.load_state_dict(source.ff_context.state_dict())


def _take_single(block: nn.Module, source: nn.Module) -> None:
    attended, fed = source.proj_out.weight.split([block.dim, source.proj_out.in_features - block.dim], 1)
    for modulation in (block.img_mod[1], block.txt_mod[1]):
        modulation.weight.copy_(source.norm.linear.weight.repeat(2, 1))
        modulation.bias.copy_(source.norm.linear.bias.repeat(2))
    for name in PROJECTIONS:
        _copy(getattr(block.attn, name), getattr(source.attn, name))
        _copy(getattr(block.attn, f"add_{name[3:]}_proj"), getattr(source.attn, name))
    for name in ("q", "k"):
        for ours in (getattr(block.attn, f"norm_{name}"), getattr(block.attn, f"norm_added_{name}")):
            ours.weight.copy_(getattr(source.attn, f"norm_{name}").weight)
    for out in (block.attn.to_out[0], block.attn.to_add_out):
        out.weight.copy_(attended)
        out.bias.copy_(source.proj_out.bias)
    for feed in (block.img_mlp, block.txt_mlp):
        _copy(feed.net[0].proj, source.proj_mlp)
        feed.net[2].weight.copy_(fed)
        feed.net[2].bias.zero_()
