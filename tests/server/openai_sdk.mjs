// Every endpoint that OpenAI's Node SDK knows, unchanged but for its base URL.
//
// HALFBYTE_URL is the server's address; run where `openai` is installed.

import assert from "node:assert";

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.HALFBYTE_URL}/v1`,
  apiKey: "none",
  maxRetries: 0,
});

const models = [];
for await (const card of client.models.list()) models.push(card.id);
assert.equal(models.length, 1);
const model = models[0];
assert.equal((await client.models.retrieve(model)).id, model);

const prompt = { model, prompt: "Once upon a time", max_tokens: 12, seed: 3 };
const completion = await client.completions.create(prompt);
let text = "";
for await (const part of await client.completions.create({ ...prompt, stream: true })) {
  text += part.choices[0]?.text ?? "";
}
assert.equal(text, completion.choices[0].text);

const messages = [{ role: "user", content: "Tell me a story about a cat." }];
const ask = { model, messages, max_completion_tokens: 16, seed: 3 };
const chat = await client.chat.completions.create(ask);
assert.equal(chat.choices[0].message.role, "assistant");
const stream = await client.chat.completions.create({
  ...ask,
  stream: true,
  stream_options: { include_usage: true },
});
text = "";
let usage;
for await (const part of stream) {
  text += part.choices[0]?.delta.content ?? "";
  usage = part.usage ?? usage;
}
assert.equal(text, chat.choices[0].message.content);
assert.equal(usage.completion_tokens, chat.usage.completion_tokens);
const runner = client.chat.completions.stream(ask);
assert.equal(await runner.finalContent(), text);

// One that is stopped in the middle.
const long = await client.chat.completions.create({ ...ask, stream: true });
for await (const part of long) {
  if (part) long.controller.abort();
}

const embeddings = await client.embeddings.create({ model, input: ["The cat sat."] });
const length = embeddings.data[0].embedding.reduce((sum, x) => sum + x * x, 0);
assert(Math.abs(length - 1) < 1e-4, `${length}`);

const response = await client.responses.create({
  model,
  input: "Tell me a story.",
  max_output_tokens: 16,
  temperature: 0,
});
assert(response.output_text.length > 0);
text = "";
const events = await client.responses.create({
  model,
  input: "Tell me a story.",
  max_output_tokens: 16,
  temperature: 0,
  stream: true,
});
for await (const event of events) {
  if (event.type === "response.output_text.delta") text += event.delta;
}
assert.equal(text, response.output_text);

await assert.rejects(client.chat.completions.create({ ...ask, temperature: -1 }), (error) => {
  return error instanceof OpenAI.BadRequestError && error.param === "temperature";
});
console.log("models, completions, chat, embeddings, responses, errors: as they should be");
