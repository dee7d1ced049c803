/**
 * Information about a setting, besides its type. The documentation and the template of `doorbell init` are derived from
 * it.
 */
import { z } from 'zod'

export interface SettingInfo {
  /** The purpose of the setting: one paragraph of Markdown. Links are relative to docs/. */
  description?: string
  /** The accepted values, as Markdown. The types in kinds.ts provide it. */
  values?: string
  /**
   * The value of a setting that is left out and has no default in the schema. In development, most limits are off,
   * because developers send many requests about the same user.
   */
  usual?: { production: number; development: number }
  /** A description of the default, if the default is not one fixed value. */
  unlessSet?: string
  /**
   * For a section: the name of the setting that is set if the configuration contains `true` or `false` in place of the
   * section.
   */
  shortFor?: string
  /** Whether the configuration may contain the name of a file instead of the value. */
  isFile?: boolean
  /** TypeScript that the template shows instead of the default. */
  example?: string
  /** Whether the example cannot be used as it is: it names a file, or needs another setting. */
  isSketch?: boolean
}

/**
 * The information about all settings. This is not the global registry of zod, which belongs to the application that
 * runs Doorbell.
 */
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

/** Adds the description of the accepted values to a type. For the types in kinds.ts. */
export function withValues<Type extends z.ZodType>(type: Type, values: string): Type {
  settingInfo.add(type, { values })
  return type
}

/** Returns a sentence about the value in development, or an empty text if the value is the same as in production. */
export function noteOnDevelopment({ usual }: SettingInfo): string {
  return usual === undefined || usual.development === usual.production
    ? ''
    : ` In development, the default is ${usual.development}.`
}
