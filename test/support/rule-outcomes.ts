/** Records whether tests have seen each rule of a list both satisfied and violated. */
import type { Rule } from '../../src/platform/input-rule.ts'

/**
 * From now on, records the outcomes of each rule, by replacing its function `requires`.
 *
 * @returns a function that returns the first settings of the rules that lack one of the two outcomes, in their order
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
