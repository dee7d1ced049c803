/**
 * Detects text that programs turn into links. Names of clients are shown in our mails and must not lead anywhere. Mail
 * programs also make links of addresses without a scheme, from anything that ends like a domain name.
 */

const scheme = /[a-z][a-z0-9+.-]*:\/\/|(?:mailto|tel|sms|data|javascript):\S|(?<![\p{L}\p{N}])www\d?\./iu

/** Labels separated by dots, including ideographic ones, and what follows. */
const dotted = /[\p{L}\p{N}_-]+(?:[.\u3002\uff61][\p{L}\p{N}_-]+)+(?:[:/]\S?)?/gu

/** Top-level domains open to all that are words or no country code. With a path after it, any ending counts. */
const endings = new Set(
  (
    'com net org info biz name pro mobi app dev xyz online site website shop store top club vip icu link click live cloud ' +
    'page work tech space fun digital agency email news blog wiki bank money pay finance support help zip mov edu gov int ' +
    'mil eu uk su рф укр бел сайт онлайн 中国 中國 公司 网络'
  ).split(' '),
)

const countries = new Intl.DisplayNames('en', { type: 'region', fallback: 'none' })

/**
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
  // Four numbers are an address only with a path: versions look the same. Prices and dates with a path are not.
  if (/^\d+$/.test(ending)) return goesOn && labels.length === 4 && labels.every((label) => /^\d{1,3}$/.test(label))
  if (goesOn && /^\p{L}{2,}$/u.test(ending)) return true
  return endings.has(ending) || ending.startsWith('xn--') || isCountry(ending)
}

function isCountry(ending: string): boolean {
  return /^[a-z]{2}$/.test(ending) && countries.of(ending.toUpperCase()) !== undefined
}
