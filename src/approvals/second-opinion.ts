import { type AndOr, type CommandNode, type PipelineNode, parse, type Statement, type WordPart } from 'unbash'
import type { SimpleCommand } from './shell.ts'

/**
 * Whether an independent bash parser reads the same words in the same order. Two parsers that were written apart have
 * to be wrong in the same way before a misread script is accepted.
 */
export function secondOpinionAgrees(script: string, commands: readonly SimpleCommand[]): boolean {
  const parsed = parse(script)
  if ((parsed.errors?.length ?? 0) > 0) return false
  const read: string[][] = []
  if (!parsed.commands.every((statement) => collectStatement(statement, read))) return false
  return read.length === commands.length && read.every((argv, index) => sameWords(argv, commands[index]?.argv ?? []))
}

export function sameWords(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((word, index) => word === right[index])
}

function collectStatement(statement: Statement, read: string[][]): boolean {
  return statement.background !== true && collect(statement.command, read)
}

function collect(node: PipelineNode | AndOr, read: string[][]): boolean {
  if (node.type === 'AndOr') return node.commands.every((command) => collect(command, read))
  if (node.type === 'Pipeline') {
    const plain = node.prefixes.length === 0 && node.operators.every((operator) => operator === '|')
    return plain && node.commands.every((command) => collectCommand(command, read))
  }
  return collectCommand(node, read)
}

function collectCommand(node: CommandNode, read: string[][]): boolean {
  if (node.type !== 'Command' || node.name === undefined || node.prefix.length > 0) return false
  const argv: string[] = []
  for (const word of [node.name, ...node.suffix]) {
    if (word.type !== 'Word' || !(word.parts ?? []).every(isLiteral)) return false
    argv.push(word.value)
  }
  read.push(argv)
  return true
}

function isLiteral(part: WordPart): boolean {
  if (part.type === 'DoubleQuoted') return part.parts.every((child) => child.type === 'Literal')
  return part.type === 'Literal' || part.type === 'SingleQuoted'
}
