/** docs/reference/log.md lists every event of the operational log that the code writes, with its levels, and no other. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { test } from 'node:test'
import { type AnyNode, type CallExpression, parse } from 'acorn'
import { auditEvents } from '../../src/platform/audit.ts'

const levels = ['debug', 'info', 'warn', 'error']

test('docs/reference/log.md lists every event with its levels', () => {
  const rows = readFileSync('docs/reference/log.md', 'utf8').matchAll(/^\| `([a-z_]+\.[a-z_]+)` +\| ([a-z, ]+?) +\|/gm)
  const listed = [...rows].map(([, name, at]) => `${name}: ${at}`)
  assert.deepEqual(listed.sort(), eventsInCode())
})

test('no event of the log has the name of an audit event', () => {
  const names = eventsInCode().map((line) => line.split(':')[0]!)
  assert.deepEqual(
    names.filter((name) => (auditEvents as string[]).includes(name)),
    [],
  )
})

/** Each event with its levels, sorted, such as `database.silent: warn`. */
function eventsInCode(): string[] {
  const found = new Map<string, Set<string>>()
  for (const file of globSync('src/**/*.ts', { exclude: ['**/*.test.ts'] })) {
    const text = readFileSync(file, 'utf8')
    if (!/\bevent:/.test(text)) continue
    visit(parse(stripTypeScriptTypes(text), { sourceType: 'module', ecmaVersion: 'latest' }), (call) => {
      const names = call.arguments.flatMap((argument) => textsOf(memberOf(argument, 'event')))
      for (const name of names) {
        for (const level of levelsOf(call)) found.set(name, (found.get(name) ?? new Set()).add(level))
      }
    })
  }
  return [...found].map(([name, at]) => `${name}: ${[...at].sort().join(', ')}`).sort()
}

/** The levels at which a call writes: none if it does not write to the log. */
function levelsOf({ callee, arguments: given }: CallExpression): string[] {
  if (callee.type === 'Identifier' && callee.name === 'createRepeatedFailures') {
    return given[3] === undefined ? ['error'] : textsOf(given[3])
  }
  if (callee.type !== 'MemberExpression') return []
  const { object, property, computed } = callee
  const owner = object.type === 'MemberExpression' ? object.property : object
  if (owner.type !== 'Identifier' || owner.name !== 'log') return []
  if (computed) return textsOf(property).filter((text) => levels.includes(text))
  return property.type === 'Identifier' && levels.includes(property.name) ? [property.name] : []
}

function memberOf(node: AnyNode, name: string): AnyNode | undefined {
  if (node.type !== 'ObjectExpression') return undefined
  const found = node.properties.find(
    (each) => each.type === 'Property' && each.key.type === 'Identifier' && each.key.name === name,
  )
  return found?.type === 'Property' ? found.value : undefined
}

/** The texts that an expression can have: both of a condition. */
function textsOf(node: AnyNode | undefined): string[] {
  if (node?.type === 'ConditionalExpression') return [...textsOf(node.consequent), ...textsOf(node.alternate)]
  return node?.type === 'Literal' && typeof node.value === 'string' ? [node.value] : []
}

function visit(node: unknown, onCall: (call: CallExpression) => void): void {
  if (typeof node !== 'object' || node === null) return
  if ('type' in node && node.type === 'CallExpression') onCall(node as CallExpression)
  for (const child of Object.values(node)) visit(child, onCall)
}
