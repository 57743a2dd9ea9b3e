import fp from 'fastify-plugin'
import { ConfigInvalid } from '../errors.ts'
import { makeDirectory } from '../src/isolation/make-directory.ts'

export interface DataDirOptions {
  dataDir: string
}

/** Makes the data directory (0700) before anything is put into it. */
export default fp<DataDirOptions>(
  async function dataDirPlugin(_fastify, { dataDir }) {
    await makeDirectory(dataDir).catch((error: Error) => {
      throw new ConfigInvalid(`DATA_DIR cannot be made: ${error.message}`)
    })
  },
  { name: 'data-dir' }
)
