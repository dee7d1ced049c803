/**
 * Translates the few expressions that differ between SQLite and Postgres. All other SQL is the same for both:
 *
 * - `/* for update *\/` and `/* for update skip locked *\/` become clauses on Postgres. SQLite has only one writer and
 *   needs no such clause.
 * - `each($3)` in a from clause stands for the items of a JSON array that is given as a parameter: one row for each
 *   item, with the column `each.value`. The items are strings or numbers. Postgres returns a number as text, so compare
 *   `cast(each.value as bigint)`.
 * - `rows($1) as asked (id text, number bigint)` in a from clause stands for the objects of a JSON array that is given
 *   as a parameter: one row for each object, with the listed members as columns.
 * - `$1` becomes `?1` on SQLite, where `$1` would be a named parameter.
 */

const list = /\beach\(\$(\d+)\)/g
const table = /\brows\(\$(\d+)\) as (\w+) \(([^)]*)\)/g
const locking = /\/\*\s*(for update(?: skip locked)?)\s*\*\//g

/**
 * Quoted texts and comments are matched first, and are not changed. For instance, `'$1'` in quotes is a text and not a
 * parameter.
 */
const quotedOrParameter = /'(?:[^']|'')*'|"[^"]*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\d+)/g

/** Returns the SQL for Postgres. */
export function wordsOfPostgres(sql: string): string {
  return sql
    .replace(locking, '$1')
    .replace(list, (_, number) => few(`jsonb_array_elements_text($${number}::jsonb) as item(value)`, 'each'))
    .replace(table, (_, number, name, columns) => few(`json_to_recordset($${number}::json) as item (${columns})`, name))
}

/**
 * Returns a subquery for which Postgres expects few rows. If it were written without limits, Postgres would expect a
 * hundred rows from a JSON array or a recursion. The subquery contains two limits that exclude no rows. But Postgres
 * does not know their values during planning, so for each limit it expects only a tenth of the rows.
 */
export function few(items: string, name: string): string {
  const everything = 'limit (select 1000000000)'
  return `(select * from (select * from ${items} ${everything}) as items ${everything}) as ${name}`
}

/**
 * Returns the SQL for SQLite. Only the needed columns of `json_each` are selected: it has others, such as `id` and
 * `type`, whose names could be ambiguous in the statement. `limit -1` excludes no rows. With it, SQLite reads each
 * member of an object only once; without it, SQLite would read a member again at each use in the statement.
 *
 * @param version the version of SQLite
 */
export function toSqliteDialect(sql: string, version = process.versions.sqlite): string {
  const each = hasJsonbEach(version) ? 'jsonb_each' : 'json_each'
  return sql
    .replace(list, (_, number) => `(select value from json_each($${number})) as each`)
    .replace(
      table,
      (_, number, name, columns) => `(select ${members(columns)} from ${each}($${number}) limit -1) as ${name}`,
    )
    .replace(quotedOrParameter, (found, number) => (number === undefined ? found : `?${number}`))
}

/**
 * Returns whether this version of SQLite has `jsonb_each`, which returns objects in binary form. `json_each` returns
 * each object as a text, which SQLite parses again for each member. For an object of 38 members, such as an
 * authentication request, this takes three times as long.
 */
function hasJsonbEach(version = '0'): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > 3 || (major === 3 && minor >= 51)
}

function members(columns: string): string {
  const names = columns.split(',').map((column) => column.trim().split(/\s+/)[0]!)
  return names.map((name) => `value ->> '${name}' as ${name}`).join(', ')
}
