/** Kinds of settings, each with the sentence that says what is wrong with another value. */
import { z } from 'zod'
import { mustBe } from '../platform/validation.ts'

export function section<Shape extends z.core.$ZodShape>(shape: Shape) {
  return z.strictObject(shape, mustBe('an object of settings'))
}

export function whole(unit: string, least: number, most: number) {
  return number(`a whole number of ${unit}, at least ${least} and at most ${most}`, least, most)
}

export function number(what: string, least: number, most: number) {
  return z
    .number(mustBe(what))
    .refine((value) => Number.isInteger(value) && value >= least && value <= most, mustBe(what))
}

export function text(what: string, holds: (value: string) => boolean) {
  return z.string(mustBe(what)).refine(holds, mustBe(what))
}

export function list(what: string, holds: (value: string) => boolean) {
  return z.array(text(what, holds), mustBe(`a list; each entry is ${what}`))
}

export function choice<const Word extends string>(words: readonly Word[]) {
  return z.enum(words, mustBe(`one of ${words.map((word) => `"${word}"`).join(', ')}`))
}

export function yesOrNo(): z.ZodBoolean
export function yesOrNo<const Word extends string>(word: Word): z.ZodLiteral<boolean | Word>
export function yesOrNo(word?: string) {
  if (word === undefined) return z.boolean(mustBe('true or false'))
  return z.literal([true, false, word], mustBe(`true, false or "${word}"`))
}
