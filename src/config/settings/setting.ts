/**
 * Information about a setting beside its type. The documentation and the template of `doorbell init` are derived from
 * it.
 */
import { z } from 'zod'

export interface SettingInfo {
  /** The purpose of the setting: one paragraph of Markdown. Links are relative to docs/. */
  description?: string
  /** The accepted values, as Markdown. The types in kinds.ts provide it. */
  values?: string
  /**
   * The value of a setting that is left out and has no default in the schema. In development most limits are off,
   * because there the same user gets many requests.
   */
  usual?: { production: number; development: number }
  /** The default in words, if it cannot be given as a value. */
  unlessSet?: string
  /** For a section: the name of the setting that is set if `true` or `false` is given in place of the section. */
  shortFor?: string
  /** Whether the value may be the name of a file that contains it. */
  isFile?: boolean
  /** TypeScript that the template shows instead of the default. */
  example?: string
  /** Whether the example cannot be used unchanged: it names a file, or needs another setting. */
  isSketch?: boolean
}

/** A separate registry: the global one of zod belongs to the application that runs Doorbell. */
export const settingInfo = z.registry<SettingInfo>()

/** Declares a setting, or a section of settings: its type and its description. */
export function setting<Type extends z.ZodType>(
  type: Type,
  description: string,
  more: Omit<SettingInfo, 'description'> = {},
): Type {
  settingInfo.add(type, { description, ...more })
  return type
}

/** For the types in kinds.ts: adds the description of the accepted values. */
export function withValues<Type extends z.ZodType>(type: Type, values: string): Type {
  settingInfo.add(type, { values })
  return type
}

/** Returns a sentence about the value in development, or an empty text if it is the same as in production. */
export function noteOnDevelopment({ usual }: SettingInfo): string {
  return usual === undefined || usual.development === usual.production
    ? ''
    : ` In development ${usual.development} unless set.`
}
