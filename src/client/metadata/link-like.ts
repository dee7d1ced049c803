/**
 * Detects texts that mail programs turn into links. Our mails show the names of clients, and these names must not
 * become links. Mail programs also turn addresses without a scheme into links.
 */

const scheme = /[a-z][a-z0-9+.-]*:\/\/|(?:mailto|tel|sms|data|javascript):\S|(?<![\p{L}\p{N}])www\d?\./iu

/**
 * A host name: labels separated by dots, the last of which has two letters or more, or is in Punycode. Every such text
 * counts as a host name, because new top-level domains appear each year, and a mail program may know domains that are
 * missing from a fixed list. So a file name (`Node.js`) and an abbreviation without a space (`St.Gallen`) count too.
 * Prices, versions, dates and abbreviations of single letters do not count, because their last part is a number or one
 * letter.
 */
const host = /[\p{L}\p{N}\p{So}_-]\.(?:[\p{L}\p{N}_-]+\.)*(?:\p{L}{2,}|xn--[\p{L}\p{N}-]+)(?![\p{L}\p{N}_-])/u

/** An IPv4 address that is followed by a port or path. Four numbers alone may be a version. */
const numericHost = /(?<![\p{L}\p{N}.])\d{1,3}(?:\.\d{1,3}){3}[:/]\S/u

/**
 * An ideographic full stop between two words. It usually ends a sentence, but browsers read it as a dot in a host name.
 */
const ideographicHost = /[\p{L}\p{N}\p{So}_-][\u3002\uff61](?<label>[\p{L}\p{N}_-]+)(?![\p{L}\p{N}_-])/gu

/** The top-level domains in Chinese and Japanese script. */
const ideographicEndings = new Set(
  (
    '中国 中國 公司 网络 网址 网店 網路店 集团 在线 中文网 商城 商店 商标 我爱你 世界 佛山 信息 健康 八卦 公益 台湾 台灣 ' +
    '嘉里大酒店 大众汽车 大拿 天主教 娱乐 家電 广东 微博 慈善 手机 招聘 政务 政府 新加坡 新闻 时尚 書籍 机构 淡马锡 游戏 ' +
    '澳門 澳门 点看 移动 组织机构 联通 谷歌 购物 通販 電訊盈科 飞利浦 食品 餐厅 香格里拉 香港 みんな アマゾン クラウド ' +
    'グーグル コム ストア セール ファッション ポイント'
  ).split(' '),
)

/**
 * Whether a mail program could turn a part of the text into a link.
 *
 * @example
 * looksLikeALink('Pay at evil.example') // true
 * looksLikeALink('St.Gallen') // true: write "St. Gallen"
 * looksLikeALink('Coffee 4.20, v1.2, Fr. 12.50, z.B. Tee') // false
 */
export function looksLikeALink(text: string): boolean {
  // Combining marks and invisible characters could separate a dot from the letters beside it, so they are removed.
  const plain = text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[\p{M}\p{Default_Ignorable_Code_Point}]/gu, '')
  return scheme.test(plain) || host.test(plain) || numericHost.test(plain) || hasIdeographicHost(plain)
}

function hasIdeographicHost(plain: string): boolean {
  const labels = [...plain.matchAll(ideographicHost)].map(({ groups }) => groups!.label!)
  return (
    labels.some((label) => ideographicEndings.has(label)) ||
    labels.some((label) => host.test(`a.${label}`) && /^[\p{Script=Latin}-]/u.test(label))
  )
}
