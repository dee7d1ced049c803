/** The texts of messages about a change of the user's account. */
import { fileURLToPath } from 'node:url'
import { Eta } from 'eta'
import { chooseLanguage, type Texts } from '../../platform/i18n/texts.ts'
import type { AccountNotice } from './device-notice.ts'
import type { Mail } from './mail.ts'
import { formatTime, onOneLine } from './notice-text.ts'

/** Returns the texts of a message about a change. The member `from` is undefined if the browser is unknown. */
export function accountWords({ change, user }: AccountNotice, texts: Texts) {
  const language = chooseLanguage(user.locale)
  const say = texts.in(language)
  const { type, browser, changed_at } = change
  return {
    language,
    say,
    title: say(`account_notice.${type}`),
    when: say('account_notice.when', { time: formatTime(changed_at * 1000, user, language) }),
    from: browser && say('account_notice.from', { browser }),
    notYou: say('account_notice.not_you'),
  }
}

const eta = new Eta({ views: fileURLToPath(new URL('./views/', import.meta.url)), autoEscape: true, cache: true })

/** Returns the mail about a change, in the language of the user. */
export function writeAccountMail(notice: AccountNotice, texts: Texts): Mail {
  const words = accountWords(notice, texts)
  const { say, title, when, from, notYou } = words
  const { link } = notice.change
  const greeting = notice.user.name && say('mail.greeting', { name: onOneLine(notice.user.name) })
  const facts = [when, from].filter(Boolean)
  const open = say('account_notice.open')
  const paragraphs = [greeting, title, facts.join('\n'), say('account_notice.you'), notYou, `${open}:\n${link}`]
  return {
    subject: title,
    text: paragraphs.filter(Boolean).join('\n\n'),
    html: eta.render('./account-mail', { ...words, greeting, facts, open, link }),
  }
}
