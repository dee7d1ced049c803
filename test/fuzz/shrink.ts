/** Minimizes a failing request, so that it can be read. */
import type { Shot } from './shot.ts'

/** The maximum number of attempts. */
const most = 300

/** @returns the smallest request that still fails, or undefined if the original does not fail again */
export async function shrink(shot: Shot, fails: (shot: Shot) => Promise<boolean>): Promise<Shot | undefined> {
  if (!(await fails(shot))) return undefined
  let smallest = shot
  let tries = 0
  let isSmaller = true
  while (isSmaller && tries < most) {
    isSmaller = false
    for (const candidate of smallerThan(smallest)) {
      if (++tries > most) break
      if (!(await fails(candidate))) continue
      smallest = candidate
      isSmaller = true
      break
    }
  }
  return smallest
}

function* smallerThan(shot: Shot): Generator<Shot> {
  for (const index of shot.headers.keys()) yield { ...shot, headers: shot.headers.toSpliced(index, 1) }
  yield* pieces(shot.body, '&').map((body) => ({ ...shot, body }))
  const [path = '', query] = shot.target.split('?', 2)
  if (query !== undefined) {
    yield { ...shot, target: path }
    yield* pieces(query, '&').map((fewer) => ({ ...shot, target: `${path}?${fewer}` }))
  }
  if (shot.framing !== 'length' && shot.body !== '') yield { ...shot, framing: 'length' }
  yield* shorter(shot.body).map((body) => ({ ...shot, body }))
  for (const [index, [name, value]] of shot.headers.entries()) {
    yield* shorter(value).map((less) => ({ ...shot, headers: shot.headers.with(index, [name, less]) }))
  }
  yield* shorter(shot.target).map((target) => ({ ...shot, target }))
}

/** Returns the texts with one piece removed. */
function pieces(text: string, between: string): string[] {
  const all = text.split(between)
  return all.length < 2 ? [] : all.map((_, index) => all.toSpliced(index, 1).join(between))
}

/** Returns the texts with a half, a quarter or an eighth removed. */
function shorter(text: string): string[] {
  const results: string[] = []
  for (let length = Math.floor(text.length / 2); length >= 1 && results.length < 30; length = Math.floor(length / 2)) {
    for (let at = 0; at + length <= text.length && results.length < 30; at += length) {
      results.push(text.slice(0, at) + text.slice(at + length))
    }
  }
  return results
}
