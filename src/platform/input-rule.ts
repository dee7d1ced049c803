/**
 * Rules about settings, client metadata or request parameters. All code that checks several of these values together
 * uses the type `Rule`.
 */
import type { OAuthErrorCode } from './oauth-error.ts'

/**
 * One condition that input must meet.
 *
 * @example
 * const rule: Rule<{ min: number; max: number }> = {
 *   settings: ['min', 'max'],
 *   requires: ({ min, max }) => min <= max,
 *   message: ({ max }) => `must be at most max (${max})`,
 * }
 */
export interface Rule<Subject, Context = undefined, Setting extends string = string> {
  /** The names of the settings that `requires` checks. A violation is reported with the name of the first one. */
  settings: readonly [Setting, ...Setting[]]
  /** Returns whether the input meets the condition. */
  requires: (subject: Subject, context: Context) => boolean
  /** The OAuth error code, if a violation becomes an error response. */
  error?: OAuthErrorCode
  message: string | ((subject: Subject, context: Context) => string)
}

/** A rule that is not met. `setting` is the first setting of the rule. */
export interface Violation<Setting extends string = string> {
  setting: Setting
  message: string
}

/**
 * Returns the violations, in the order of the rules.
 *
 * @param isInvalid returns whether a setting is invalid by itself. Rules about such a setting are skipped, because they
 * would report the same problem again
 */
export function violationsOf<Subject, Context, Setting extends string>(
  rules: readonly Rule<Subject, Context, Setting>[],
  subject: Subject,
  context: Context,
  isInvalid: (setting: Setting) => boolean = () => false,
): Violation<Setting>[] {
  return rules
    .filter(({ settings, requires }) => !settings.some(isInvalid) && !requires(subject, context))
    .map(({ settings, message }) => ({
      setting: settings[0],
      message: typeof message === 'string' ? message : message(subject, context),
    }))
}
