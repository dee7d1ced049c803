/** The mail to a user about a request. */
import { fileURLToPath } from 'node:url'
import { Eta } from 'eta'
import type { Texts } from '../../platform/i18n/texts.ts'
import type { Notice } from './device-notice.ts'
import { onOneLine, type Words, wordsFor } from './notice-text.ts'

export interface Mail {
  subject: string
  text: string
  html: string
}

/** Returns whether a text is a single mail address that cannot be read as two addresses or as a header. */
export function isMailAddress(address: string | undefined): address is string {
  return address !== undefined && /^[^\s@<>()[\],;:"\\\p{Cc}]+@[^\s@<>()[\],;:"\\\p{Cc}]+$/u.test(address)
}

/** Returns the mail about a request, in the language of the user. */
export function writeMail(notice: Notice, texts: Texts): Mail {
  const words = wordsFor(notice, texts)
  return {
    subject: onOneLine(words.say('mail.subject', { client: words.clientName })),
    text: writeText(notice, words),
    html: writeHtml(notice, words),
  }
}

function writeText({ request, user, link }: Notice, { say, clientName, selfRegistered, until }: Words): string {
  const paragraphs = [
    user.name && say('mail.greeting', { name: onOneLine(user.name) }),
    say('mail.asks', { client: clientName }),
    selfRegistered,
    request.binding_message && `${say('mail.compare')}\n\n    ${onOneLine(request.binding_message)}`,
    `${say('mail.open')}:\n${link}`,
    say('mail.until', { time: until }),
    say('mail.not_me'),
    `-- \n${say('mail.why')}`,
  ]
  return paragraphs.filter(Boolean).join('\n\n')
}

const eta = new Eta({ views: fileURLToPath(new URL('./views/', import.meta.url)), autoEscape: true, cache: true })

function writeHtml(
  { request, user, link }: Notice,
  { language, say, clientName, selfRegistered, until }: Words,
): string {
  return eta.render('./mail', {
    language,
    say,
    client: clientName,
    selfRegistered,
    name: user.name,
    bindingMessage: request.binding_message,
    link,
    until,
  })
}
