/**
 * The few words in which the engines differ, so that everything else is one SQL text:
 *
 * - `/* for update *\/` and `/* for update skip locked *\/` become clauses on Postgres. SQLite has one writer and needs none.
 * - `each($3)` in a from clause stands for the rows of a JSON array given as a parameter, in one column, `each.value`.
 *   Its items are strings or numbers. A number is text on Postgres, so compare `cast(each.value as bigint)`.
 * - `rows($1) as asked (id text, number bigint)` in a from clause stands for the objects of a JSON array given as a
 *   parameter: one row each, with these of their members.
 * - `$1` is `?1` on SQLite, where `$1` would be a name.
 */

const list = /\beach\(\$(\d+)\)/g
const table = /\brows\(\$(\d+)\) as (\w+) \(([^)]*)\)/g
const locking = /\/\*\s*(for update(?: skip locked)?)\s*\*\//g

/** Text in quotes and comments is matched first, and left alone: a price of '$1' is no parameter. */
const quotedOrParameter = /'(?:[^']|'')*'|"[^"]*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\d+)/g

export function wordsOfPostgres(sql: string): string {
  return sql
    .replace(locking, '$1')
    .replace(list, (_, number) => few(`jsonb_array_elements_text($${number}::jsonb) as item(value)`, 'each'))
    .replace(table, (_, number, name, columns) => few(`json_to_recordset($${number}::json) as item (${columns})`, name))
}

/**
 * Rows of which there are few, which Postgres cannot know: a JSON array, or what a recursion brings, it takes for a hundred
 * and plans for so many. A limit that it cannot tell beforehand it takes for a tenth of what there is; these two leave
 * nothing out.
 */
export function few(items: string, name: string): string {
  const everything = 'limit (select 1000000000)'
  return `(select * from (select * from ${items} ${everything}) as items ${everything}) as ${name}`
}

/**
 * `json_each` has more columns than `value`, among them `id` and `type`; left in, they would be ambiguous. A limit, though
 * it is none, has SQLite read each member of an object once, and not again wherever the statement mentions it.
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
