/** What is said about a setting beside its type. The documentation and the template of `doorbell init` are made of it. */
import { z } from 'zod'

export interface SettingInfo {
  /** What it is for: one paragraph of Markdown. Links are relative to docs/. */
  description?: string
  /** What its value may be, as Markdown. Each kind of setting says it by itself (kinds.ts). */
  values?: string
  /**
   * The value of a setting that is left out and has no default in the schema. In development most limits are off: there
   * the same user is asked again and again.
   */
  usual?: { production: number; development: number }
  /** The same in words, where a value does not say it. */
  unlessSet?: string
  /** Of a section: the setting in it for which `true` and `false` in the place of the section are short. */
  shortFor?: string
  /** Whether it may be the name of a file whose text is the value. */
  isFile?: boolean
  /** TypeScript that the template shows in the place of the default. */
  example?: string
  /** Whether the example cannot be used as it stands: it names a file, or needs another setting. */
  isSketch?: boolean
}

/** A registry of our own: the global one of zod belongs to the application that Doorbell runs in. */
export const settingInfo = z.registry<SettingInfo>()

/** Declares a setting, or a section of settings: its type, and what it is for. */
export function setting<Type extends z.ZodType>(
  type: Type,
  description: string,
  more: Omit<SettingInfo, 'description'> = {},
): Type {
  settingInfo.add(type, { description, ...more })
  return type
}

/** For the kinds of settings: what a value of this type may be. */
export function withValues<Type extends z.ZodType>(type: Type, values: string): Type {
  settingInfo.add(type, { values })
  return type
}

/** What else is said of a setting that is less strict in development, as a sentence; nothing of any other. */
export function noteOnDevelopment({ usual }: SettingInfo): string {
  return usual === undefined || usual.development === usual.production
    ? ''
    : ` In development ${usual.development} unless set.`
}
