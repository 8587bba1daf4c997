// Different good edits by the stock `openai` client of JavaScript, from a server that runs:
//
//     ctxrep-edit serve --model kontext-nano --port 8000
//     npm install --prefix examples           # openai, as examples/package.json pins it
//     OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none node examples/openai_client.mjs photo.png mask.png
//
// Writes what examples/openai_client.py does. What the server takes beside the hosted API stands among the other
// parameters here.

import { readFile, writeFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

const N = 3;
const client = new OpenAI();
const picture = async (file, type) => toFile(await readFile(file), file, { type });
const [photo, mask] = await Promise.all(process.argv.slice(2, 4).map((file) => picture(file, "image/png")));

// 1. A set: its edits are made together, repelled from one another, and judged.
const made = await client.images.edit({
  image: photo, mask, prompt: "change the light", n: N, output_format: "webp", output_compression: 90,
  seed: 7, restore: true,
});
for (const edit of made.data) {
  await writeFile(`edit-${edit.index + 1}.webp`, Buffer.from(edit.b64_json, "base64"));
  console.log(`edit ${edit.index + 1}: seed ${edit.seed}, LPIPS ${edit.lpips.toFixed(3)}, ${edit.reason}`);
}
console.log(`${made.set.distinct} different ones of ${N}`);

// 2. The same as events: previews while they form, then each edit as soon as its batch is done.
const events = await client.images.edit({
  image: photo, prompt: "change the light", n: 2, stream: true, partial_images: 1, seed: 7,
});
for await (const event of events) {
  if (event.type === "image_edit.partial_image") {
    await writeFile(`forming-${event.index + 1}.png`, Buffer.from(event.b64_json, "base64"));
  }
  console.log(`${event.type} of edit ${event.index + 1}`);
}

// 3. What cannot be done is refused by the client's own exceptions.
try {
  await client.images.edit({ image: photo, prompt: "change the light", strenght: 2 });
} catch (error) {
  if (!(error instanceof OpenAI.BadRequestError)) throw error;
  console.log(`refused: ${error.param}: ${error.error.message}`);
}
