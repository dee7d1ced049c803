/**
 * Names that the machine itself defines: the names in its hosts file, and the search domains in `resolv.conf`, which
 * complete short names. `dns.Resolver` does not read these two files, so they are read here. The files are small and
 * local, so they are read synchronously. An asynchronous read could miss the deadline of a lookup, because it waits for
 * one of libuv's few threads.
 */
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'

export interface Address {
  address: string
  family: number
}

/** The paths of the files. By default, the files of the system are read. */
export interface NameFiles {
  hosts?: string | undefined
  resolvConf?: string | undefined
}

/** The path of the system's hosts file. */
export const hostsPath =
  process.platform === 'win32'
    ? join(process.env.SystemRoot ?? 'C:\\Windows', 'System32', 'drivers', 'etc', 'hosts')
    : '/etc/hosts'

/** Upper limit for the search domains. glibc uses more, but each domain costs another lookup for every short name. */
const mostSearchDomains = 6

export type SystemNames = ReturnType<typeof createSystemNames>

export function createSystemNames({ hosts = hostsPath, resolvConf = '/etc/resolv.conf' }: NameFiles = {}) {
  const hostsFile = whenChanged(hosts, parseHosts)
  const searchList = whenChanged(resolvConf, parseSearchList)

  return {
    /**
     * Returns the addresses that the machine itself defines for a name, or undefined if a name server must be asked.
     */
    addressesOf(name: string): Address[] | undefined {
      const own = hostsFile().get(name)
      if (own !== undefined) return own
      // RFC 6761 §6.3: these names are never resolved by a name server.
      return name === 'localhost' || name.endsWith('.localhost') ? loopback : undefined
    },

    /**
     * Returns the names that are looked up for a name, in order: the name with each search domain appended, and the
     * name itself, which comes first or last (`ndots`). For a name that ends with a dot, returns only the name itself.
     */
    candidatesFor(name: string): string[] {
      if (name.endsWith('.')) return [name]
      const { domains, ndots } = searchList()
      const completed = domains.map((domain) => `${name}.${domain}`)
      return name.split('.').length - 1 >= ndots ? [name, ...completed] : [...completed, name]
    },
  }
}

const loopback: Address[] = [
  { address: '::1', family: 6 },
  { address: '127.0.0.1', family: 4 },
]

/** Parses a hosts file. Each line contains an address and its names; `#` begins a comment. */
export function parseHosts(text: string): Map<string, Address[]> {
  const found = new Map<string, Address[]>()
  for (const line of text.split(/\r?\n/)) {
    const [address = '', ...names] = wordsOf(line.split('#')[0]!)
    const family = isIP(address)
    if (family === 0) continue
    for (const name of names.map((each) => each.toLowerCase())) {
      found.set(name, [...(found.get(name) ?? []), { address, family }])
    }
  }
  return found
}

interface SearchList {
  domains: string[]
  /** A name with fewer dots than this is tried with each search domain appended first, and unchanged last. */
  ndots: number
}

/** Parses resolv.conf(5). If there are several `search` and `domain` lines, the last one counts. */
export function parseSearchList(text: string): SearchList {
  const list: SearchList = { domains: [], ndots: 1 }
  for (const line of text.split(/\r?\n/)) {
    const [keyword, ...values] = wordsOf(line.split(/[#;]/)[0]!)
    if (keyword === 'search' || keyword === 'domain') {
      const domains = values.map((each) => each.replace(/\.$/, '')).filter((domain) => domain !== '')
      list.domains = domains.slice(0, keyword === 'domain' ? 1 : mostSearchDomains)
    }
    if (keyword === 'options') {
      const ndots = values.map((each) => /^ndots:(\d{1,2})$/.exec(each)?.[1]).findLast((each) => each !== undefined)
      if (ndots !== undefined) list.ndots = Math.min(Number(ndots), 15)
    }
  }
  return list
}

function wordsOf(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}

/** Caches a parsed file until the file changes. A missing or unreadable file counts as empty. */
function whenChanged<Content>(path: string, parse: (text: string) => Content): () => Content {
  let version: string | undefined
  let content = parse('')
  return () => {
    const now = versionOf(path)
    if (now !== version) {
      version = now
      content = parse(now === undefined ? '' : readText(path))
    }
    return content
  }
}

function versionOf(path: string): string | undefined {
  try {
    const { ino, size, mtimeMs } = statSync(path)
    return `${ino} ${size} ${mtimeMs}`
  } catch {
    return undefined
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
