import { readFile } from 'node:fs/promises'
import { Client } from 'pg'
import type { Stage } from '../support/stage.ts'

/** Returns all encodings in which a secret could be stored or printed. */
export function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret)
  return [
    ...new Set([
      secret,
      encodeURIComponent(secret),
      bytes.toString('base64'),
      bytes.toString('base64url'),
      bytes.toString('hex'),
    ]),
  ]
}

/** Resolves to every byte of the SQLite file and its write-ahead log, or to every row of every table of Postgres. */
export async function everythingKept(stage: Stage, engine: string): Promise<Buffer> {
  if (engine === 'sqlite') {
    const path = stage.database.slice('sqlite:'.length)
    const files = [path, `${path}-wal`, `${path}-shm`].map((file) => readFile(file).catch(() => Buffer.alloc(0)))
    return Buffer.concat(await Promise.all(files))
  }
  const client = new Client({ connectionString: stage.database })
  await client.connect()
  try {
    const { rows: tables } = await client.query(
      "select quote_ident(table_name) as name from information_schema.tables where table_schema = 'public'",
    )
    const texts = []
    for (const { name } of tables)
      texts.push((await client.query(`select each::text as text from ${name} as each`)).rows)
    return Buffer.from(
      texts
        .flat()
        .map(({ text }) => text)
        .join('\n'),
    )
  } finally {
    await client.end()
  }
}
