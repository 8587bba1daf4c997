"""Redraws stickers.png from a colour emoji font: `python -m ctxrep_plugins.nano.world.stickers NotoColorEmoji.ttf`."""

from __future__ import annotations

import sys

from ctxrep_plugins.nano.world.stickers import FILE, KINDS, SIDE
from PIL import Image, ImageDraw, ImageFont

EMOJI = dict(zip(KINDS, "🐱🐸🐳⚽", strict=True))


def main(font_file: str) -> None:
    font = ImageFont.truetype(font_file, 109)  # the one size that the bitmap font holds
    sheet = Image.new("RGBA", (SIDE * len(EMOJI), SIDE))
    for i, character in enumerate(EMOJI.values()):
        image = Image.new("RGBA", (136, 128))
        ImageDraw.Draw(image).text((0, 0), character, font=font, embedded_color=True)
        image = image.crop(image.getbbox())
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(image, (i * SIDE + (SIDE - image.width) // 2, (SIDE - image.height) // 2))
    sheet.save(FILE)


if __name__ == "__main__":
    main(sys.argv[1])
