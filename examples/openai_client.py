"""Different good edits by the stock `openai` client, from a server that runs:

    ctxrep-edit serve --model kontext-nano --port 8000
    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none python examples/openai_client.py photo.jpg mask.png

Writes the edits, as webp, and the previews of a streamed set into the working directory. mask.png: of the photo's
aspect, transparent or white where the edit is allowed.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import openai

N = 3


def main(photo: Path, mask: Path) -> None:
    client = openai.OpenAI()

    # 1. A set: its edits are made together, repelled from one another, and judged.
    made = client.images.edit(
        image=photo, mask=mask, prompt="change the light", n=N, output_format="webp", output_compression=90,
        extra_body={"seed": 7, "restore": True},
    )  # fmt: skip
    for edit in made.data or ():
        Path(f"edit-{edit.index + 1}.webp").write_bytes(base64.b64decode(edit.b64_json))
        print(f"edit {edit.index + 1}: seed {edit.seed}, LPIPS {edit.lpips:.3f}, {edit.reason}")
    print(f"{made.set['distinct']} different ones of {N}")

    # 2. The same as events: previews while they form, then each edit as soon as its batch is done.
    for event in client.images.edit(
        image=photo, prompt="change the light", n=2, stream=True, partial_images=1, extra_body={"seed": 7}
    ):
        if event.type == "image_edit.partial_image":
            Path(f"forming-{event.index + 1}.png").write_bytes(base64.b64decode(event.b64_json))
        print(f"{event.type} of edit {event.index + 1}")

    # 3. What cannot be done is refused by the client's own exceptions.
    try:
        client.images.edit(image=photo, prompt="change the light", extra_body={"strenght": 2})
    except openai.BadRequestError as error:
        print(f"refused: {error.param}: {error.body['message']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
