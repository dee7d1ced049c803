/**
 * Descriptions of authorization details in JSON configurations: texts by language, with placeholders for the fields of
 * the detail.
 */
import { type Language, languages } from '../platform/i18n/texts.ts'
import { type AuthorizationDetail, type DescribeDetail, inWords } from './detail-types.ts'

/**
 * Texts by language. A language without a text uses the first text. A list of texts describes a detail in several
 * lines. A line with placeholders is left out if the detail has none of the fields in these placeholders.
 */
export type DetailTexts = { readonly [Locale in Language]?: string | readonly string[] }

/**
 * Returns a function that fills in the texts.
 *
 * @example
 * describeWith({ en: ['Pay {{amount.value}} {{amount.currency}}', 'Reference: {{reference}}'] })
 */
export function describeWith(texts: DetailTexts): DescribeDetail {
  const first = languages.find((language) => texts[language] !== undefined)!
  return (detail, locale) =>
    [texts[locale] ?? texts[first]!].flat().flatMap((line) => {
      const values = [...line.matchAll(placeholder)].map(([, path]) => valueAt(detail, path!))
      if (values.length > 0 && values.every((value) => value === undefined)) return []
      return [line.replaceAll(placeholder, (_, path: string) => inWords(valueAt(detail, path)))]
    })
}

const placeholder = /\{\{\s*([^{}\s]+)\s*\}\}/g

function valueAt(detail: AuthorizationDetail, path: string): unknown {
  return path.split('.').reduce<unknown>((value, name) => {
    const hasField = typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    return hasField ? (value as Record<string, unknown>)[name] : undefined
  }, detail)
}
