/**
 * The row of a record: one column in snake case for each member. In the row, an undefined member is null, a boolean is
 * 0 or 1, and a list or an object is JSON.
 *
 * @example
 * RowOf<{ userId: string; isLast: boolean; usedAt?: number }>
 * // { user_id: string; is_last: number; used_at: number | null }
 */
export type RowOf<Kept> = {
  [Member in keyof Kept & string as SnakeCase<Member>]-?: Column<Kept[Member]>
}

type Column<Member> = Member extends undefined
  ? null
  : Member extends boolean
    ? number
    : Member extends object
      ? string
      : Member

type SnakeCase<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? '' : '_'}${Lowercase<First>}${SnakeCase<Rest>}`
  : ''
