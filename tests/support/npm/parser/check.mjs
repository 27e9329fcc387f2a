// Prints what the parser finds in an AsyncAPI document, and what it says of it.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const source = readFileSync(process.argv[2], "utf8");
const { document, diagnostics } = await new Parser().parse(source);
const found = document && {
  channels: document.channels().all().map((channel) => channel.address()),
  operations: document.operations().all().map((operation) => [operation.id(), operation.action()]),
  messages: document.components().messages().all().map((message) => message.id()),
};
const problems = diagnostics.map(({ severity, code, message, path }) => ({
  severity, code, message, path: path.join("."),
}));
console.log(JSON.stringify({ found, problems }));
