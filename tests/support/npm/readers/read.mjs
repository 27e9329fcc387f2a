// Reads YAML documents by each reader of npm. Standard input is a JSON list of documents. The output
// is a JSON mapping of each reader to its values; what is no text is a pair of its type and its text.
import { readFileSync } from 'node:fs'
import * as jsYaml from 'js-yaml'
import * as yaml from 'yaml'

const readers = {
  'yaml, YAML 1.1': (text) => yaml.parse(text, { version: '1.1' }),
  'yaml, YAML 1.2': (text) => yaml.parse(text, { version: '1.2' }),
  'js-yaml, core': (text) => jsYaml.load(text),
  'js-yaml, YAML 1.1': (text) => jsYaml.load(text, { schema: jsYaml.YAML11_SCHEMA }),
}

const shown = (value) => {
  if (typeof value === 'string') return value
  if (Array.isArray(value)) return value.map(shown)
  return { type: value === null ? 'null' : typeof value, text: String(value) }
}

const documents = JSON.parse(readFileSync(0, 'utf8'))
const answers = {}
for (const [name, read] of Object.entries(readers)) {
  answers[name] = documents.map((text) => {
    try {
      return shown(read(text))
    } catch (error) {
      return { type: 'error', text: String(error) }
    }
  })
}
process.stdout.write(JSON.stringify(answers))
