"""Redraws stickers.png from a colour emoji font: `python -m ctxrep_plugins.nano.draw_stickers NotoColorEmoji.ttf`."""

import sys
from pathlib import Path

from ctxrep_plugins.nano.world import KINDS, STICKER
from PIL import Image, ImageDraw, ImageFont

EMOJI = dict(zip(KINDS, "🐱🐸🐳⚽", strict=True))


def main(font_file: str) -> None:
    font = ImageFont.truetype(font_file, 109)  # the one size that the bitmap font holds
    sheet = Image.new("RGBA", (STICKER * len(EMOJI), STICKER))
    for i, character in enumerate(EMOJI.values()):
        image = Image.new("RGBA", (136, 128))
        ImageDraw.Draw(image).text((0, 0), character, font=font, embedded_color=True)
        image = image.crop(image.getbbox())
        image.thumbnail((STICKER, STICKER), Image.Resampling.LANCZOS)
        sheet.paste(image, (i * STICKER + (STICKER - image.width) // 2, (STICKER - image.height) // 2))
    sheet.save(Path(__file__).with_name("stickers.png"))


if __name__ == "__main__":
    main(sys.argv[1])
