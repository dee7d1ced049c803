#!/usr/bin/env node
// The command. In a checkout it runs the sources as they are; in an installed package it runs dist/.
// Plain JavaScript that any Node can parse, so that an old Node gets a sentence and not a stack trace.
import { existsSync } from 'node:fs'

const major = Number(process.versions.node.split('.')[0])
if (major < 24) {
  console.error(
    `Doorbell needs Node 24 or newer; this is Node ${process.versions.node}.\n` +
      'In a checkout, "npx doorbell" and "npm start" bring the right one. Elsewhere: npm install node@24, then npx doorbell.',
  )
  process.exit(1)
}

const source = new URL('../src/cli/main.ts', import.meta.url)
const built = new URL('../dist/cli/main.js', import.meta.url)
await import(existsSync(source) ? source.href : built.href)
