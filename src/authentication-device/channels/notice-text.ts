/** Texts that all messages to users have in common: language, name of the client, time of expiry. */

import { looksLikeALink } from '../../client/metadata/link-like.ts'
import { saySelfRegistered } from '../../platform/i18n/self-registered.ts'
import { chooseLanguage, type Language, localeFor, type Say, type Texts } from '../../platform/i18n/texts.ts'
import type { User } from '../../user/user.ts'
import type { Notice } from './device-notice.ts'

/** The texts of a message, in the language of the user. */
export interface Words {
  language: Language
  say: Say
  clientName: string
  /** Only if the client registered itself: a text that says this and names the hosts of the client. */
  selfRegistered: string | undefined
  /** When the request expires, in the format of the user's locale. */
  until: string
}

/** Returns the texts of a message about a request. */
export function wordsFor({ request, user }: Notice, texts: Texts): Words {
  const language = chooseLanguage(user.locale)
  const say = texts.in(language)
  const { self_registered, hosts = [] } = request.client
  const name = onOneLine(request.client.client_name ?? request.client.client_id)
  // A client that registers itself may have a name that looks like a link. Registration refuses such a name only while
  // mail is configured, and mail may have been configured later.
  const clientName = self_registered && looksLikeALink(name) ? unlinked(name) : name
  return {
    language,
    say,
    clientName,
    selfRegistered: self_registered && saySelfRegistered(say, clientName, hosts.map(unlinked)),
    until: formatTime(request.expires_at * 1000, user, language),
  }
}

/** Adds an invisible character after each punctuation mark, so that no mail program makes a link of the text. */
function unlinked(text: string): string {
  return text.replace(/\p{P}/gu, '$&\u2060')
}

/**
 * Replaces control characters and line separators with spaces, because such characters could begin a new line or a new
 * mail header.
 */
export function onOneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim()
}

/**
 * Formats a time in the user's locale. The time zone is included, because it is often UTC: few users have a `zoneinfo`.
 */
export function formatTime(time: number, user: User, language: Language): string {
  const format: Intl.DateTimeFormatOptions = {
    year: 'numeric',
    month: 'long',
    day: 'numeric',
    hour: 'numeric',
    minute: '2-digit',
    timeZoneName: 'short',
  }
  const locale = localeFor(language, user.locale)
  return new Intl.DateTimeFormat(locale, { ...format, timeZone: zoneOf(user) }).format(time)
}

/**
 * Returns the time zone in the claim `zoneinfo` (OpenID Connect Core §5.1), or UTC if the claim is missing or invalid.
 */
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
