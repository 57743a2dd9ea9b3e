import { type FileHandle, open } from 'node:fs/promises'

/** However many journals are written and read at once: a process has few thousand descriptors, and clients need them. */
const MAX_OPEN_FILES = 64

const waiting: (() => void)[] = []
let openCount = 0

/** Opens a file (new ones with mode 0600) for as long as `use` takes, when fewer than 64 are open in this way. */
export async function withFile<T>(path: string, flags: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  await enter()
  try {
    const file = await open(path, flags, 0o600)
    try {
      return await use(file)
    } finally {
      await file.close()
    }
  } finally {
    leave()
  }
}

async function enter(): Promise<void> {
  if (openCount < MAX_OPEN_FILES) openCount++
  else await new Promise<void>((resolve) => waiting.push(resolve))
}

/** Hands its place on, if anybody waits for one. */
function leave(): void {
  const next = waiting.shift()
  if (next === undefined) openCount--
  else next()
}
