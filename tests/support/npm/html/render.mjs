// Renders an AsyncAPI document as one HTML page: render.mjs DOCUMENT FOLDER
import Generator from "@asyncapi/generator";

const [, , source, folder] = process.argv;
const options = { forceWrite: true, templateParams: { singleFile: "true" } };
await new Generator("@asyncapi/html-template", folder, options).generateFromFile(source);
