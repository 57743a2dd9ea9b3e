import { mkdir } from 'node:fs/promises'
import fp from 'fastify-plugin'
import { ConfigInvalid } from '../errors.ts'

export interface DataDirOptions {
  dataDir: string
}

/** Makes the data directory (0700) before anything is put into it. */
export default fp<DataDirOptions>(
  async function dataDirPlugin(_fastify, { dataDir }) {
    await mkdir(dataDir, { recursive: true, mode: 0o700 }).catch((error: Error) => {
      throw new ConfigInvalid(`DATA_DIR cannot be made: ${error.message}`)
    })
  },
  { name: 'data-dir' }
)
