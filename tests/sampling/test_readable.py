"""Words need encoders."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tiny_sd3

from ctxrep_edit import ModelError, diverse_edit
from ctxrep_edit.testing import tiny_picture

OPTIONS = {
    "seed": 0,
    "steps": 2,
    "preserve": "off",
    "progress": False,
    "max_sequence_length": 16,
    "width": 32,
    "height": 32,
}


@pytest.mark.parametrize("lacking", [("text_encoder", "text_encoder_2"), ("text_encoder_2",), ("tokenizer_2",)])
def test_words_without_encoders(pipeline: Any, lacking: tuple[str, ...]) -> None:
    pipeline.register_modules(**dict.fromkeys(lacking))
    missing = re.escape(" and ".join(lacking))
    with pytest.raises(ModelError, match=f"^This FluxKontextPipeline has no {missing}, so it cannot read words"):
        diverse_edit(tiny_picture(), "change the light", 2, pipeline=pipeline, **OPTIONS)


def test_embeddings_need_no_encoders(pipeline: Any) -> None:
    words, pooled, _ = pipeline.encode_prompt("change the light", None, max_sequence_length=16)
    embeds = {"prompt_embeds": words, "pooled_prompt_embeds": pooled}
    given = diverse_edit(tiny_picture(), "it", 2, pipeline=pipeline, **embeds, **OPTIONS)
    encoders = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipeline.register_modules(**encoders)
    made = diverse_edit(tiny_picture(), "it", 2, pipeline=pipeline, **embeds, **OPTIONS)
    assert made.images == given.images
    with pytest.raises(ModelError, match=r"or give negative_prompt_embeds, and what goes with them\.$"):
        diverse_edit(
            tiny_picture(), "it", 2, pipeline=pipeline, **embeds, negative_prompt="x", true_cfg_scale=2.0,
            **OPTIONS,
        )  # fmt: skip


def test_an_encoder_that_the_family_does_without() -> None:
    pipeline = tiny_sd3.pipeline(tiny_sd3.CLASSES[0])
    pipeline.register_modules(text_encoder_3=None, tokenizer_3=None)
    assert len(diverse_edit(tiny_picture(64, 48), "change the light", 2, pipeline=pipeline, **OPTIONS)) == 2
