// Prints what ajv finds wrong with schemas in strict mode: compile.mjs FILE…; {} if nothing.
// Beside it, for each file, whether its examples are valid.
import { readFileSync } from "node:fs";
import Ajv2020 from "ajv/dist/2020.js";

const problems = {};
for (const file of process.argv.slice(2)) {
  const said = [];
  const logger = { log: (...m) => said.push(m.join(" ")), warn: (...m) => said.push(m.join(" ")),
    error: (...m) => said.push(m.join(" ")) };
  try {
    const schema = JSON.parse(readFileSync(file, "utf8"));
    const validate = new Ajv2020({ strict: true, logger }).compile(schema);
    for (const example of schema.examples ?? [])
      if (!validate(example)) said.push(JSON.stringify(validate.errors));
  } catch (error) {
    said.push(error.message);
  }
  if (said.length) problems[file] = said;
}
console.log(JSON.stringify(problems));
