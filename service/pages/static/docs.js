// The API reference, made from the OpenAPI schema.
import * as api from "./api.js";
import { complain, make, stamp } from "./dom.js";

const MULTIPART = "multipart/form-data", JSON_BODY = "application/json";
const PLACEHOLDERS = { request_id: "<request_id of an answer>" }; // values that only the reader knows
let schemas = {};
let values = {}; // values of fields that work with this service; the schema has only examples

async function start() {
  try {
    const [schema, about] = await Promise.all([api.schema(), api.models()]);
    values = {
      model: about.default,
      explain: about.methods[0] ?? "none",
      label: about.classes[0],
    };
    schemas = schema.components?.schemas ?? {};
    for (const [path, methods] of Object.entries(schema.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        document.getElementById("operations").append(section(path, method.toUpperCase(), operation));
      }
    }
  } catch (failure) {
    complain(failure.message);
  }
}

function section(path, method, operation) {
  const [root, slots] = stamp("operation");
  slots.method.textContent = method;
  slots.path.textContent = path;
  slots.summary.textContent = operation.description ?? operation.summary ?? "";
  const body = operation.requestBody?.content ?? {};
  const parameters = (operation.parameters ?? []).map(one => [one.name, one.schema, one.required, one.description]);
  const sent = [...parameters, ...fields((body[MULTIPART] ?? body[JSON_BODY])?.schema)];
  addFields(slots.fields, MULTIPART in body ? "Form fields" : JSON_BODY in body ? "JSON fields" : "Parameters", sent);
  const errors = [];
  for (const [status, answer] of Object.entries(operation.responses)) {
    const schema = answer.content?.[JSON_BODY]?.schema;
    if (status < 300) addFields(slots.fields, `Answer ${status}`, nested(fields(schema)));
    else errors.push([status, schema]);
  }
  // All errors have the same body.
  addFields(slots.fields, `Errors ${errors.map(([status]) => status).join(", ")}`, nested(fields(errors[0]?.[1])));
  slots.example.textContent = curl(path, method, body);
  return root;
}

function addFields(where, title, rows) {
  if (!rows.length) return;
  const [root, slots] = stamp("fields");
  slots.title.textContent = title;
  slots.group.setAttribute("aria-label", title);
  for (const [name, schema, required, description] of rows) {
    const cells = [make("code", name), required ? " " : "", required ? make("span", "required", { className: "tag" }) : ""];
    slots.rows.append(make("tr", [make("td", cells), make("td", type(schema)), make("td", meaning(name, schema, description))]));
  }
  where.append(root);
}

/** Return [name, schema, required, description] of an object's fields; none for anything else. */
function fields(schema) {
  const { properties = {}, required = [] } = resolve(schema);
  return Object.entries(properties).map(([name, one]) => [name, one, required.includes(name), one.description]);
}

/** Return an answer's fields, each followed by those inside it; none is marked as required, as answers have all. */
function nested(rows, prefix = "") {
  return rows.flatMap(([name, schema, , description]) => {
    const path = prefix + name;
    const [inner, mark] = inside(schema);
    return [[path, schema, false, description], ...nested(fields(inner), `${path}${mark}.`)];
  });
}

/** Return the object inside a field, and the mark of its place: [] for a list's items, {} for values by name. */
function inside(schema) {
  const { anyOf, items, additionalProperties, ...plain } = resolve(schema);
  if (anyOf) return inside(anyOf.find(one => one.type !== "null"));
  if (items) return [items, "[]"];
  return additionalProperties?.$ref ? [additionalProperties, "{}"] : [plain, ""];
}

function resolve(schema = {}) {
  if (schema.$ref) return { ...resolve(schemas[schema.$ref.split("/").at(-1)]), ...schema, $ref: undefined };
  return schema.allOf?.length === 1 ? { ...resolve(schema.allOf[0]), ...schema } : schema;
}

function type(schema = {}) {
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  const { type: kind, title, items, format, contentMediaType, additionalProperties, properties } = resolve(schema);
  if (format === "binary" || contentMediaType === "application/octet-stream") return "file";
  if (kind === "array") return `list of ${type(items)}`;
  if (kind === "object" && additionalProperties?.type) return `object of ${type(additionalProperties)}`;
  return properties ? title : kind ?? "any";
}

function meaning(name, schema, description = "") {
  const { enum: choices, default: standard } = resolve(schema);
  const parts = [description];
  if (choices) parts.push(`One of: ${choices.join(", ")}.`);
  if (standard !== undefined && standard !== null && String(standard) !== "") parts.push(`Default: ${text(standard)}`);
  if (example(name, schema) !== undefined) parts.push(`Example: ${text(example(name, schema))}`);
  return parts.filter(Boolean).map(part => (/[.!?]$/.test(part) ? part : `${part}.`)).join(" ");
}

const text = value => (typeof value === "string" ? value : JSON.stringify(value));

/** Return a command that works with this service: required fields, and fields with an example. */
function curl(path, method, body) {
  const address = new URL(path.replace(/^\//, ""), document.baseURI).href;
  if (body[MULTIPART]) {
    const parts = fields(body[MULTIPART].schema).flatMap(([name, schema, required]) => {
      if (type(schema) === "file") return [`-F ${name}=@scan.png`];
      if (type(schema) === "list of file") return [`-F ${name}=@first.png`, `-F ${name}=@second.png`];
      return required || example(name, schema) !== undefined ? [`-F ${name}=${text(example(name, schema) ?? "")}`] : [];
    });
    return ["curl", ...parts, address].join(" ");
  }
  if (body[JSON_BODY]) {
    const pairs = fields(body[JSON_BODY].schema).map(([name, schema]) => [name, PLACEHOLDERS[name] ?? example(name, schema) ?? ""]);
    return `curl -H 'Content-Type: ${JSON_BODY}' -d '${JSON.stringify(Object.fromEntries(pairs))}' ${address}`;
  }
  return method === "GET" ? `curl ${address}` : `curl -X ${method} ${address}`;
}

const example = (name, schema) => values[name] ?? resolve(schema).examples?.[0];

start();
