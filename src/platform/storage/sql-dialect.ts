/**
 * The few expressions that differ between the engines; all other SQL is the same text for both:
 *
 * - `/* for update *\/` and `/* for update skip locked *\/` become clauses on Postgres. SQLite has one writer and needs none.
 * - `each($3)` in a from clause stands for the rows of a JSON array given as a parameter, in one column, `each.value`.
 *   Its items are strings or numbers. Postgres returns a number as text, so compare `cast(each.value as bigint)`.
 * - `rows($1) as asked (id text, number bigint)` in a from clause stands for the objects of a JSON array given as a
 *   parameter: one row for each, with the listed members as columns.
 * - `$1` becomes `?1` on SQLite, where `$1` would be a named parameter.
 */

const list = /\beach\(\$(\d+)\)/g
const table = /\brows\(\$(\d+)\) as (\w+) \(([^)]*)\)/g
const locking = /\/\*\s*(for update(?: skip locked)?)\s*\*\//g

/** Text in quotes and comments is matched first and not changed: a price of '$1' is not a parameter. */
const quotedOrParameter = /'(?:[^']|'')*'|"[^"]*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\d+)/g

/** Returns the text for Postgres. */
export function wordsOfPostgres(sql: string): string {
  return sql
    .replace(locking, '$1')
    .replace(list, (_, number) => few(`jsonb_array_elements_text($${number}::jsonb) as item(value)`, 'each'))
    .replace(table, (_, number, name, columns) => few(`json_to_recordset($${number}::json) as item (${columns})`, name))
}

/**
 * Returns a subquery for which Postgres expects few rows. It assumes a hundred rows for a JSON array or a recursion, and for
 * a limit whose value it cannot know in advance a tenth of the rows. The two limits exclude nothing.
 */
export function few(items: string, name: string): string {
  const everything = 'limit (select 1000000000)'
  return `(select * from (select * from ${items} ${everything}) as items ${everything}) as ${name}`
}

/**
 * Returns the text for SQLite. `json_each` has more columns than `value`, among them `id` and `type`, which would be
 * ambiguous, so only the needed ones are selected. With `limit -1`, which excludes nothing, SQLite reads each member of an
 * object once, and not again wherever the statement uses it.
 */
export function toSqliteDialect(sql: string): string {
  return sql
    .replace(list, (_, number) => `(select value from json_each($${number})) as each`)
    .replace(
      table,
      (_, number, name, columns) => `(select ${members(columns)} from json_each($${number}) limit -1) as ${name}`,
    )
    .replace(quotedOrParameter, (found, number) => (number === undefined ? found : `?${number}`))
}

function members(columns: string): string {
  const names = columns.split(',').map((column) => column.trim().split(/\s+/)[0]!)
  return names.map((name) => `value ->> '${name}' as ${name}`).join(', ')
}
