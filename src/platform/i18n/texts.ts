/** Texts for users, by key, in the language of the user. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import i18next, { type i18n } from 'i18next'

/** The languages that Doorbell supports. The first is the default. */
export const languages = ['en', 'de', 'es', 'fr', 'ja', 'pt-BR'] as const
export type Language = (typeof languages)[number]

/**
 * Returns a text: `say('approve.title', { client: 'Till' })`. The values are inserted unchanged; pages escape the
 * values.
 */
export type Say = (key: string, values?: Record<string, string | number>) => string

/** The texts of all languages. */
export interface Texts {
  in(language: Language): Say
}

/** The folder of the texts: one JSON file for each language. */
export const textsFolder = fileURLToPath(new URL('./texts/', import.meta.url))

/**
 * Loads the texts.
 *
 * @param overrides a folder with files that have the same names as those in `textsFolder`: their texts replace
 *   Doorbell's, key by key
 * @throws if a file of texts cannot be read; the message names the file
 */
export function loadTexts(overrides?: string): Texts {
  const own = readFolder(textsFolder)
  const others = overrides === undefined ? {} : readFolder(overrides)
  const instance: i18n = i18next.createInstance()
  void instance.init({
    lng: 'en',
    fallbackLng: 'en',
    initAsync: false,
    // Keys may contain a colon, as in `scope.ciba:decide`, so i18next must not treat the colon as a separator.
    nsSeparator: false,
    // i18next does not escape the values. Each page escapes a value once, when it shows the value.
    interpolation: { escapeValue: false },
    showSupportNotice: false,
    resources: Object.fromEntries(Object.entries(own).map(([language, texts]) => [language, { translation: texts }])),
  } as Parameters<i18n['init']>[0])
  for (const [language, texts] of Object.entries(others)) {
    instance.addResourceBundle(language, 'translation', texts, true, true)
  }
  return {
    in: (language) => {
      const translate = instance.getFixedT(language)
      return (key, values = {}) => String(translate(key, values))
    },
  }
}

function readFolder(folder: string): Record<string, Record<string, unknown>> {
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.json')) : []
  return Object.fromEntries(files.map((file) => [file.slice(0, -'.json'.length), readTexts(join(folder, file))]))
}

function readTexts(file: string): Record<string, unknown> {
  try {
    const texts: unknown = JSON.parse(readFileSync(file, 'utf8'))
    if (typeof texts !== 'object' || texts === null || Array.isArray(texts)) throw new Error('it is not a JSON object')
    return texts as Record<string, unknown>
  } catch (error) {
    throw new Error(`the texts in ${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * Returns the first wanted language that Doorbell supports, or the default if there is none. Users' locales come from
 * many sources, so not only language tags (BCP 47) are understood, but also the forms of POSIX and Java.
 *
 * @param wishes the wanted languages, in order of preference: a user's locale, `ui_locales`, an `Accept-Language`
 *   header. Each may list several languages
 * @example
 * chooseLanguage('fr-CA', 'de;q=0.8, en') // 'fr'
 * chooseLanguage(undefined, 'pt') // 'pt-BR'
 * chooseLanguage('de_AT.UTF-8') // 'de'
 */
export function chooseLanguage(...wishes: (string | undefined)[]): Language {
  for (const wish of wishes) {
    const found = inOrder(wish)
      .map(closest)
      .find((language) => language !== undefined)
    if (found !== undefined) return found
  }
  return languages[0]
}

/**
 * Returns the locale for dates in a text of this language: the wanted one if it is of the same language, with its
 * region, otherwise the language.
 *
 * @param wish like a wish of `chooseLanguage`
 * @example
 * localeFor('de', 'de_AT') // 'de-AT'
 * localeFor('en', 'sw') // 'en'
 */
export function localeFor(language: Language, wish: string | undefined): string {
  return inOrder(wish).find((tag) => closest(tag) === language && isLanguageTag(tag)) ?? language
}

/** Whether a text is a language tag (BCP 47). */
export function isLanguageTag(text: string): boolean {
  try {
    return Intl.getCanonicalLocales(text).length === 1
  } catch {
    return false
  }
}

/**
 * Parses a list of language tags, separated by commas or spaces, with or without weights such as `;q=0.8`. Anything but
 * a string, which an application's hook may return, is an empty list.
 */
function inOrder(list: unknown): string[] {
  if (typeof list !== 'string') return []
  return list
    .slice(0, 500)
    .replace(/\s*;\s*/g, ';')
    .split(/[,\s]+/)
    .map((entry) => {
      const [tag = '', ...parameters] = entry.split(';')
      const weight = parameters.map((parameter) => /^\s*q=([\d.]+)\s*$/.exec(parameter)?.[1]).find(Boolean)
      return { tag: asLanguageTag(tag), weight: weight === undefined ? 1 : Number(weight) }
    })
    .filter(({ tag, weight }) => tag !== '' && weight > 0)
    .sort((one, other) => other.weight - one.weight)
    .map(({ tag }) => tag)
}

/**
 * Returns a locale in the form of a language tag, in lower case. POSIX writes `de_DE.UTF-8@euro`, Java `de_DE` and
 * `zh_TW_#Hant`.
 */
export function asLanguageTag(text: string): string {
  return text
    .trim()
    .replace(/[.@#].*$/, '')
    .replaceAll('_', '-')
    .replace(/-+$/, '')
    .toLowerCase()
}

function closest(tag: string): Language | undefined {
  const [base] = tag.split('-')
  return (
    languages.find((language) => language.toLowerCase() === tag) ??
    languages.find((language) => language.toLowerCase().split('-')[0] === base)
  )
}
