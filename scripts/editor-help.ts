/**
 * `npm run docs:configuration`: writes src/config/editor-help.ts, so that an editor shows the description of each
 * setting. This file is needed because types that are inferred from a schema have no comments.
 */
import { writeFileSync } from 'node:fs'
import { type Declaration, declarations, sectionsIn } from '../src/config/schema.ts'
import { noteOnDevelopment } from '../src/config/settings/setting.ts'

if (import.meta.main) writeFileSync('src/config/editor-help.ts', editorHelp())

export function editorHelp(): string {
  return `/** Made from the declarations of the settings by \`npm run docs:configuration\`. */

/** The description of each setting, which editors show. It is combined with the type that contains the settings. */
${typeOf('EditorHelp', declarations)}${sectionsIn(declarations)
  .map((section) => `\n${typeOf(nameOfHelp(section), section.settings)}`)
  .join('')}`
}

/** Returns the declaration of a type alias. An interface is not used, because it cannot be assigned to `Record`. */
function typeOf(name: string, declared: readonly Declaration[]): string {
  return `export type ${name} = {\n${declared.map(memberOf).join('')}}\n`
}

function memberOf(declared: Declaration): string {
  const { name, kind, info } = declared
  const comment = info.description === undefined ? '' : `  /** ${helpOn(declared)} */\n`
  // If a section also accepts a short form, its value may be no object. So the descriptions of its members are not
  // added here.
  const isObject = kind === 'section' && info.shortFor === undefined
  return `${comment}  ${name}?: ${isObject ? `${nameOfHelp(declared)} | undefined` : 'unknown'}\n`
}

/** `limits.signIn` → `LimitsSignInHelp` */
function nameOfHelp({ path }: Declaration): string {
  return `${path.replaceAll(/(?:^|\.)(.)/g, (_all, letter: string) => letter.toUpperCase())}Help`
}

function helpOn({ kind, info }: Declaration): string {
  const text = `${info.description}${noteOnDevelopment(info)}`.replaceAll(/\[[^\]]*\]\(([^)]+)\)/g, '`docs/$1`')
  return kind === 'section' ? text : `${text} Value: ${info.values}.`
}
