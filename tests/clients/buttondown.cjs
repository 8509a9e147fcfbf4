// What a program that uses the npm package does with tags and subscribers. Prints one line of JSON for each call.
"use strict";

const buttondown = require("buttondown");

buttondown.setApiKey(process.env.BUTTONDOWN_API_KEY);

async function tell(name, call) {
  try {
    console.log(JSON.stringify({ name, value: (await call()) ?? null }));
  } catch (error) {
    const { response } = error;
    console.log(JSON.stringify({ name, status: response?.statusCode, body: response?.body, message: error.message }));
  }
}

async function main() {
  const { tags, subscribers } = buttondown;
  await tell("create tag", () => tags.create({ name: "VIP", color: "#FFD700", description: "The best" }));
  await tell("create tag by name", () => tags.create({ name: "Beta" }));
  await tell("create tag again", () => tags.create({ name: "VIP" }));
  await tell("list tags", () => tags.list());
  const [vip] = await tags.list();
  await tell("get tag", () => tags.get(vip.id));
  await tell("patch tag", () => tags.patch(vip.id, { description: "The very best" }));
  await tell("put tag", () => tags.put(vip.id, { name: "VIP", color: "#FFD700" }));
  await tell("create subscriber", () => subscribers.create({ email: "ada@example.com", tags: ["VIP", "New"] }));
  await tell("list subscribers", () => subscribers.list(1, { tag: "VIP" }));
  const [ada] = await subscribers.list();
  await tell("get subscriber", () => subscribers.get(ada.id));
  await tell("patch subscriber", () => subscribers.patch(ada.id, { tags: ["Beta"] }));
  await tell("remove subscriber", () => subscribers.remove(ada.id, { email: "ada@example.com" }));
  await tell("remove tag", () => tags.remove(vip.id, { name: "VIP" }));
  await tell("get removed tag", () => tags.get(vip.id));
  await tell("second page", () => tags.list(2));
}

main();
