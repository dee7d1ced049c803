/**
 * Detects texts that mail programs turn into links. Our mails show the names of clients, and these names must not
 * become links. Mail programs also turn addresses without a scheme into links, if such an address ends like a domain
 * name.
 */

const scheme = /[a-z][a-z0-9+.-]*:\/\/|(?:mailto|tel|sms|data|javascript):\S|(?<![\p{L}\p{N}])www\d?\./iu

/** Labels separated by dots, including ideographic dots, and the start of a port or path that follows. */
const dotted = /[\p{L}\p{N}_-]+(?:[.\u3002\uff61][\p{L}\p{N}_-]+)+(?:[:/]\S?)?/gu

/**
 * Common top-level domains that are not country codes of ISO 3166. A name that is followed by a port or path may end
 * with any letters.
 */
const endings = new Set(
  (
    'com net org info biz name pro mobi app dev xyz online site website shop store top club vip icu link click live cloud ' +
    'page work tech space fun digital agency email news blog wiki bank money pay finance support help zip mov edu gov int ' +
    'mil eu uk su рф укр бел сайт онлайн 中国 中國 公司 网络'
  ).split(' '),
)

const countries = new Intl.DisplayNames('en', { type: 'region', fallback: 'none' })

/**
 * Whether a mail program could turn a part of the text into a link.
 *
 * @example
 * looksLikeALink('Pay at evil.example/now') // true
 * looksLikeALink('shop.com') // true
 * looksLikeALink('Coffee 4.20, v1.2, Fr. 12.50, St.Gallen') // false
 */
export function looksLikeALink(text: string): boolean {
  const plain = text.normalize('NFKC').toLowerCase()
  return scheme.test(plain) || (plain.match(dotted) ?? []).some(isAddress)
}

function isAddress(found: string): boolean {
  const [name = '', path] = found.split(/[:/]/, 2)
  const labels = name.split(/[.\u3002\uff61]/)
  const ending = labels.at(-1)!
  const goesOn = path !== undefined && path !== ''
  // Four numbers count as an address only if a port or path follows, because version numbers look the same. Fewer or
  // more numbers, as in prices and dates, never count.
  if (/^\d+$/.test(ending)) return goesOn && labels.length === 4 && labels.every((label) => /^\d{1,3}$/.test(label))
  if (goesOn && /^\p{L}{2,}$/u.test(ending)) return true
  return endings.has(ending) || ending.startsWith('xn--') || isCountry(ending)
}

function isCountry(ending: string): boolean {
  return /^[a-z]{2}$/.test(ending) && countries.of(ending.toUpperCase()) !== undefined
}
