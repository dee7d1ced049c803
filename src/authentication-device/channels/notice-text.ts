/** What every message to a user needs: their language, the client's name, the time until which they can decide. */

import { saySelfRegistered } from '../../platform/i18n/self-registered.ts'
import { chooseLanguage, type Language, type Say, type Texts } from '../../platform/i18n/texts.ts'
import type { User } from '../../user/user.ts'
import type { Notice } from './device-notice.ts'

export interface Words {
  language: Language
  say: Say
  clientName: string
  /** That the client registered itself and where it is, if so. */
  selfRegistered: string | undefined
  /** Until when the user can decide, as they write times. */
  until: string
}

export function wordsFor({ request, user }: Notice, texts: Texts): Words {
  const language = chooseLanguage(user.locale)
  const say = texts.in(language)
  const clientName = onOneLine(request.client.client_name ?? request.client.client_id)
  const { self_registered, hosts = [] } = request.client
  return {
    language,
    say,
    clientName,
    selfRegistered: self_registered && saySelfRegistered(say, clientName, hosts.map(unlinked)),
    until: formatTime(request.expires_at * 1000, user, language),
  }
}

/** The host reads the same, but no mail program makes a link of it: the user is to know it, not to go there. */
function unlinked(host: string): string {
  return host.replaceAll('.', '.\u2060')
}

/** Whatever would begin a new line, or a new header, becomes a space. */
export function onOneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim()
}

/** In the user's own way of writing, with the time zone's name: which zone they are in is seldom known. */
export function formatTime(time: number, user: User, language: Language): string {
  const format: Intl.DateTimeFormatOptions = {
    year: 'numeric',
    month: 'long',
    day: 'numeric',
    hour: 'numeric',
    minute: '2-digit',
    timeZoneName: 'short',
  }
  const isTheirs = user.locale?.split('-')[0]?.toLowerCase() === language.split('-')[0]
  return new Intl.DateTimeFormat(isTheirs ? user.locale : language, { ...format, timeZone: zoneOf(user) }).format(time)
}

/** `zoneinfo` is OpenID Connect's claim for it. */
function zoneOf({ claims }: User): string {
  const zone = claims?.zoneinfo
  try {
    return typeof zone === 'string'
      ? new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone
      : 'UTC'
  } catch {
    return 'UTC'
  }
}
