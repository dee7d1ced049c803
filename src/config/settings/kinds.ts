/** Types of settings. Each type has an error message that says which values are valid. */
import { z } from 'zod'
import { expectation, secretExpectation } from '../../platform/validation.ts'
import { isPem, pemForm } from './formats.ts'
import { settingInfo, withValues } from './setting.ts'

export function section<Shape extends z.core.$ZodShape>(shape: Shape) {
  return z.strictObject(shape, expectation('an object of settings'))
}

export function whole(unit: string, least: number, most: number) {
  const type = number(`a whole number of ${unit}, at least ${least} and at most ${most}`, least, most)
  return withValues(type, `${unit}, ${inGroups(least)} to ${inGroups(most)}`)
}

export function number(what: string, least: number, most: number) {
  const type = z
    .number(expectation(what))
    .refine((value) => Number.isInteger(value) && value >= least && value <= most, expectation(what))
  return withValues(type, what)
}

export function text(what: string, holds: (value: string) => boolean) {
  return withValues(z.string(expectation(what)).refine(holds, expectation(what)), what)
}

/**
 * Returns the type of a string that error messages must not contain, such as a password, or an address with a password.
 */
export function secretText(what: string, holds: (value: string) => boolean, hint?: (value: unknown) => string) {
  return withValues(z.string(secretExpectation(what, hint)).refine(holds, secretExpectation(what, hint)), what)
}

/**
 * Returns the type of a PEM text. The configuration may also contain the name of a file: when the configuration is
 * loaded, the name is replaced by the text of the file. Error messages do not contain keys.
 */
export function pem(what: 'key' | 'certificate' | 'certificates') {
  const form = pemForm(what)
  const type = what === 'key' ? secretText(form, isPem) : text(form, isPem)
  settingInfo.add(type, { values: form, isFile: true })
  return type
}

export function list(what: string, holds: (value: string) => boolean) {
  const form = `a list; each entry is ${what}`
  return withValues(z.array(text(what, holds), expectation(form)), form)
}

export function choice<const Word extends string>(words: readonly Word[]) {
  const type = z.enum(words, expectation(`one of ${words.map((word) => `"${word}"`).join(', ')}`))
  return withValues(type, words.map((word) => `\`${word}\``).join(', '))
}

export function yesOrNo(): z.ZodBoolean
export function yesOrNo<const Word extends string>(word: Word): z.ZodLiteral<boolean | Word>
export function yesOrNo(word?: string) {
  if (word === undefined) return withValues(z.boolean(expectation('true or false')), '`true`, `false`')
  const type = z.literal([true, false, word], expectation(`true, false or "${word}"`))
  return withValues(type, `\`true\`, \`false\`, \`"${word}"\``)
}

/** Returns the type of a setting whose values are validated in another file. `Value` is the type that editors show. */
export function readElsewhere<Value>(values: string) {
  return withValues(z.custom<Value>(), values)
}

/** Returns a number as text, with its digits in groups: `86 400`, but `3600`. */
export function inGroups(value: number): string {
  return value < 10_000 ? String(value) : value.toLocaleString('fr').replace(/\s/g, ' ')
}

export const year = 365 * 86_400
