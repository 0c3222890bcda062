// The watcher's own form: a field for each of its params, by the JSON schema that the DAG file gives.
import { number } from "./format.js";
import { Check } from "./parts.js";
import { say } from "./words.js";
import { C, h, useId } from "./react.js";

const typesOf = (schema) => [].concat(schema?.type ?? []);
const has = (schema, type) => typesOf(schema).includes(type);
const isNumber = (schema) => has(schema, "integer") || has(schema, "number");
const isLines = (schema) => has(schema, "array") && (schema.items?.type ?? "string") === "string";
const isText = (schema) => has(schema, "string") || typesOf(schema).length === 0;

const shown = (schema, value) => {
  if (value === null || value === undefined) return "";
  if (isLines(schema) && Array.isArray(value)) return value.join("\n");
  return typeof value === "object" ? JSON.stringify(value, null, 2) : String(value);
};

/** Return the value of a field as its schema wants it; throws what is wrong with it. */
const valueOf = (schema, value) => {
  if (typeof value !== "string") return value;
  const text = value.trim();
  if (text === "" && has(schema, "null") && !isLines(schema)) return null;
  if (isNumber(schema) && !has(schema, "string")) {
    const found = Number(text);
    if (text === "" || !Number.isFinite(found) || (has(schema, "integer") && !Number.isInteger(found))) throw new Error(`“${text}”`);
    return found;
  }
  if (isLines(schema)) return value.split("\n").map((line) => line.trim()).filter(Boolean);
  return isText(schema) ? value : JSON.parse(value);
};

/** Return `{conf}` of all fields, or `{problem}`. */
export const read = (params, values) => {
  const conf = {};
  for (const [name, { schema }] of Object.entries(params)) {
    try {
      conf[name] = valueOf(schema, values[name]);
    } catch (error) {
      return { problem: say("form.bad", { name, error: error.message }) };
    }
  }
  return { conf };
};

const range = (schema) => {
  const { minimum: low, exclusiveMinimum: over, maximum: high } = schema ?? {};
  const limits = low !== undefined && high !== undefined
    ? [say("form.range", { low: number(low), high: number(high) })]
    : [
      low !== undefined && say("form.min", { low: number(low) }),
      over !== undefined && say("form.over", { low: number(over) }),
      high !== undefined && say("form.max", { high: number(high) }),
    ].filter(Boolean);
  return limits.length ? ` (${limits.join(", ")})` : "";
};

const Field = ({ name, param, value, onChange }) => {
  const { schema = {}, description } = param;
  const id = useId();
  const props = { id, size: "sm", value: shown(schema, value), "aria-describedby": `${id}-about`, onChange: (event) => onChange(event.target.value) };
  if (has(schema, "boolean")) {
    return h("div", null,
      h(Check, { checked: value === true, onChange, label: name, about: `${id}-about` }),
      h("small", { id: `${id}-about` }, description));
  }
  let field;
  if (Array.isArray(schema.enum)) {
    field = h(C.NativeSelect.Root, { size: "sm" }, h(C.NativeSelect.Field, { ...props, size: undefined }, ...schema.enum.map((one) => h("option", { key: one, value: one }, one))), h(C.NativeSelect.Indicator));
  } else if (isNumber(schema)) field = h(C.Input, { ...props, inputMode: has(schema, "integer") ? "numeric" : "decimal" });
  else if (isLines(schema) || has(schema, "object") || has(schema, "array")) field = h(C.Textarea, { ...props, rows: 4 });
  else field = h(C.Input, props);
  return h("div", { className: "field" },
    h("label", { htmlFor: id }, `${name}${isNumber(schema) ? range(schema) : ""}`), field,
    h("small", { id: `${id}-about` }, description, isLines(schema) ? ` ${say("form.lines")}` : has(schema, "object") ? ` ${say("form.json")}` : ""));
};

// `dry_run` first: it decides what the button does.
const first = ([a], [b]) => (a === "dry_run" ? -1 : b === "dry_run" ? 1 : 0);

export const Fields = ({ params, values, onChange }) =>
  Object.entries(params).sort(first).map(([name, param]) => h(Field, { key: name, name, param, value: values[name], onChange: (value) => onChange(name, value) }));
