/** Descriptions without code, for configurations that are JSON: texts by language, with fields of the detail in them. */
import { type Language, languages } from '../platform/i18n/texts.ts'
import { type AuthorizationDetail, type DescribeDetail, inWords } from './detail-types.ts'

/** By language; who reads none of them reads the first. A list is several lines; a line without its field is left out. */
export type DetailTexts = { readonly [Locale in Language]?: string | readonly string[] }

/**
 * @example
 * describeWith({ en: ['Pay {{amount.value}} {{amount.currency}}', 'Reference: {{reference}}'] })
 */
export function describeWith(texts: DetailTexts): DescribeDetail {
  const first = languages.find((language) => texts[language] !== undefined)!
  return (detail, locale) =>
    [texts[locale] ?? texts[first]!].flat().flatMap((line) => {
      const places = [...line.matchAll(placeholder)].map(([, path]) => valueAt(detail, path!))
      if (places.length > 0 && places.every((value) => value === undefined)) return []
      return [line.replaceAll(placeholder, (_, path: string) => inWords(valueAt(detail, path)))]
    })
}

const placeholder = /\{\{\s*([^{}\s]+)\s*\}\}/g

function valueAt(detail: AuthorizationDetail, path: string): unknown {
  return path.split('.').reduce<unknown>((value, name) => {
    const holds = typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    return holds ? (value as Record<string, unknown>)[name] : undefined
  }, detail)
}
