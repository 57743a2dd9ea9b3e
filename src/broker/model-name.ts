/** Far more than any name takes. */
const HEAD_BYTES = 512
/** codex writes the model first. */
const MODEL_FIELD = /^\s*\{\s*"model"\s*:\s*"((?:[^"\\]|\\.){1,200})"/s

/** The model that a request for an answer names, by the beginning of its body. */
export function modelNameOf(body: Buffer): string | undefined {
  const [, name] = MODEL_FIELD.exec(body.toString('utf8', 0, Math.min(body.length, HEAD_BYTES))) ?? []
  return name
}
