/** All settings: their types, defaults and descriptions. */
import { z } from 'zod'
import { clientAndUserSettings } from './settings/clients-and-users.ts'
import { connectionSettings } from './settings/connections.ts'
import { limitSettings } from './settings/limits.ts'
import { notificationSettings } from './settings/notifications.ts'
import { requestSettings } from './settings/requests.ts'
import { retentionSettings } from './settings/retention.ts'
import { serverSettings } from './settings/server.ts'
import { type SettingInfo, settingInfo } from './settings/setting.ts'
import { tokenSettings } from './settings/tokens.ts'

/**
 * The only declaration of each setting. The types, the documentation, the template of `doorbell init` and the names of
 * environment variables are derived from it.
 */
export const schema = z.strictObject({
  ...serverSettings,
  ...connectionSettings,
  ...requestSettings,
  ...tokenSettings,
  ...notificationSettings,
  ...limitSettings,
  ...retentionSettings,
  ...clientAndUserSettings,
})

/**
 * The settings after the schema has checked each of them by itself. They have the defaults of the schema, but not the
 * defaults that depend on other settings. The rules between settings are checked later.
 */
export type GivenSettings = z.output<typeof schema>

/** The types to which the values of environment variables are converted. Each setting has one of these types. */
export type SettingKind = 'text' | 'number' | 'yes or no' | 'list' | 'structure'

/** A setting, or a section with its settings. */
export interface Declaration {
  /** The dotted path. */
  path: string
  /** The last part of the path. */
  name: string
  info: SettingInfo
  kind: SettingKind | 'section'
  /** The default, if the schema has one. */
  default?: unknown
  /** The settings of a section; empty for a setting. */
  settings: Declaration[]
}

/** All sections, and all settings outside sections, in the order of the schema. */
export const declarations: readonly Declaration[] = declarationsOf(schema.shape, '')

/** All settings by their dotted paths. */
export const settingKinds: ReadonlyMap<string, SettingKind> = new Map(
  settingsIn(declarations).map(({ path, kind }) => [path, kind as SettingKind]),
)

/** All valid names, for suggestions: the path of every setting, and the name of every section. */
export const knownSettings = [...settingKinds.keys()].flatMap((path) =>
  path.includes('.') ? [path.split('.')[0]!, path] : [path],
)

/** Returns the settings, without the sections that contain them. */
export function settingsIn(declared: readonly Declaration[]): Declaration[] {
  return declared.flatMap((each) => (each.kind === 'section' ? settingsIn(each.settings) : [each]))
}

/** Returns the sections, each before the sections it contains. */
export function sectionsIn(declared: readonly Declaration[]): Declaration[] {
  return declared.flatMap((each) => (each.kind === 'section' ? [each, ...sectionsIn(each.settings)] : []))
}

const infos = new Map(settingsIn(declarations).map(({ path, info }) => [path, info]))

/** Returns a description of the values that a setting accepts. */
export function valuesOf(path: string): string | undefined {
  return infos.get(path)?.values
}

/** Returns the value of a setting that is left out and has no default in the schema (`SettingInfo.usual`). */
export function usualValue(path: string, { development }: Pick<GivenSettings, 'development'>): number {
  const usual = infos.get(path)?.usual
  if (usual === undefined) throw new Error(`${path} is declared without a usual value`)
  return development === false ? usual.production : usual.development
}

function declarationsOf(shape: Readonly<Record<string, z.core.$ZodType>>, section: string): Declaration[] {
  return Object.entries(shape).map(([name, type]) => ({ ...readType(type, `${section}${name}`), name }))
}

function readType(type: z.core.$ZodType, path: string): Omit<Declaration, 'name'> {
  const own = settingInfo.get(type)
  if (type instanceof z.ZodDefault || type instanceof z.ZodPrefault || type instanceof z.ZodExactOptional) {
    const inner = readType(type.unwrap(), path)
    const info = { ...inner.info, ...own }
    return type instanceof z.ZodDefault ? { ...inner, info, default: type.def.defaultValue } : { ...inner, info }
  }
  const isSection = type instanceof z.ZodObject
  return {
    path,
    info: { ...own },
    kind: isSection ? 'section' : kindOf(type),
    settings: isSection ? declarationsOf(type.shape, `${path}.`) : [],
  }
}

function kindOf(type: z.core.$ZodType): SettingKind {
  if (type instanceof z.ZodNumber) return 'number'
  if (type instanceof z.ZodBoolean || type instanceof z.ZodLiteral) return 'yes or no'
  if (type instanceof z.ZodString || type instanceof z.ZodEnum) return 'text'
  return type instanceof z.ZodArray && type.element instanceof z.ZodString ? 'list' : 'structure'
}
