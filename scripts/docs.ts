import { readFileSync, writeFileSync } from 'node:fs'
import { generatedParts, replacePart } from './doc-tables.ts'

for (const part of generatedParts()) writeFileSync(part.file, replacePart(readFileSync(part.file, 'utf8'), part))
