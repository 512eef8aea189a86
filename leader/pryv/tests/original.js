// A model of how the original fills in its templates, written from what is
// known of its behaviour, and run by Node: numbers, JSON and the order of
// properties are JavaScript's own. Standard input: {"settings": [[NAME, JSON text]],
// "internals": [...], "texts": [...]}, values as JSON texts so that their spelling
// gets here. Standard output: the filled texts.
const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const values = new Map();
for (const [name, text] of input.internals) values.set(name, JSON.parse(text));
for (const [name, text] of input.settings) values.set(name, JSON.parse(text));
const names = [...values.keys()].sort((a, b) => b.length - a.length);

function fill (text) {
  let out = '';
  let at = 0;
  while (at < text.length) {
    const name = names.find((name) => text.startsWith(name, at));
    if (name === undefined) {
      out += text[at++];
      continue;
    }
    let value = values.get(name);
    if (value !== null && value.value !== undefined && value.value !== null) value = value.value;
    out += fill(typeof value === 'string' ? value : JSON.stringify(value));
    at += name.length;
  }
  return out;
}
process.stdout.write(JSON.stringify(input.texts.map(fill)));
