/** Whether tests have seen each rule of a list both hold and be broken. */
import type { Rule } from '../../src/platform/rule.ts'

/**
 * From now on notes what becomes of each rule.
 *
 * @returns a function that returns the first settings of the rules that have not been seen both ways, in their order
 */
export function noteOutcomes<Subject, Context, Setting extends string>(
  rules: Rule<Subject, Context, Setting>[],
): () => Setting[] {
  const seen = rules.map((rule) => {
    const outcomes = new Set<boolean>()
    const { requires } = rule
    rule.requires = (subject, context) => {
      const holds = requires(subject, context)
      outcomes.add(holds)
      return holds
    }
    return { setting: rule.settings[0], outcomes }
  })
  return () => seen.filter(({ outcomes }) => outcomes.size < 2).map(({ setting }) => setting)
}
