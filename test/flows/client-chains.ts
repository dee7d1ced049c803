/**
 * Certificates of clients that authorities have issued in various ways, and whether a server that trusts one authority
 * accepts them.
 */
import { type Certified, certify } from '../support/certificates.ts'

export interface Chain {
  certified: Certified
  /** The certificates of authorities that the client sends too. */
  chain: Certified[]
  isTrusted: boolean
}

export const subject = 'O=Acme, CN=till'
/** The subject in the form in which clients register it (RFC 4514). */
export const registeredSubject = 'CN=till,O=Acme'

const purposes = { server: ['1.3.6.1.5.5.7.3.1'], both: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'] }

/** All client certificates have the same subject. `by` is the only trusted authority. */
export async function chainsOf(by: Certified): Promise<Record<string, Chain>> {
  const other = await certify({ subject: 'CN=Other authority', isAuthority: true })
  const below = await certify({ subject: 'CN=Below', isAuthority: true, by })
  const lowest = await certify({ subject: 'CN=Lowest', isAuthority: true, by: below })
  const sameName = await certify({ subject: 'CN=Below', isAuthority: true, by: other })
  const last = await certify({ subject: 'CN=Last', isAuthority: true, pathLength: 0, by })
  const belowLast = await certify({ subject: 'CN=Below the last', isAuthority: true, by: last })
  const ofServers = await certify({ subject: 'CN=Of servers', isAuthority: true, by, purposes: purposes.server })
  const expired = await certify({ subject: 'CN=Expired', isAuthority: true, by, from: -10, until: -1 })
  const strange = await certify({ subject: 'CN=Strange', isAuthority: true, by, hasUnknownCritical: true })
  const short = await certify({ subject: 'CN=Short', isAuthority: true, by, kind: 'weak' })
  const twin = await certify({ subject: by.subject, isAuthority: true, kind: 'rsa' })
  const belowTwin = await certify({ subject: 'CN=Below the twin', isAuthority: true, by: twin })
  const leaf = await certify({ subject: 'CN=Client', by })
  const of = (issuer: Certified, more = {}) => certify({ subject, by: issuer, ...more })
  return {
    'of the trusted authority': { certified: await of(by), chain: [], isTrusted: true },
    'of an authority below the trusted one': { certified: await of(below), chain: [below], isTrusted: true },
    'of an authority two levels below the trusted one': {
      certified: await of(lowest),
      chain: [lowest, below],
      isTrusted: true,
    },
    'with the root at the end': { certified: await of(below), chain: [below, by], isTrusted: true },
    'of an authority with path length 0': { certified: await of(last), chain: [last], isTrusted: true },
    'for servers and clients': { certified: await of(by, { purposes: purposes.both }), chain: [], isTrusted: true },
    'without the authority between': { certified: await of(below), chain: [], isTrusted: false },
    'self-signed': { certified: await certify({ subject }), chain: [], isTrusted: false },
    'of another authority': { certified: await of(other), chain: [other], isTrusted: false },
    'of another authority with the same name': { certified: await of(twin), chain: [twin], isTrusted: false },
    'of an authority below another with the same name': {
      certified: await of(belowTwin),
      chain: [belowTwin],
      isTrusted: false,
    },
    'of an untrusted authority with the name of one below the trusted one': {
      certified: await of(sameName),
      chain: [sameName, other],
      isTrusted: false,
    },
    'of an authority below one with path length 0': {
      certified: await of(belowLast),
      chain: [belowLast, last],
      isTrusted: false,
    },
    'with a key that is too short': { certified: await of(by, { kind: 'weak' }), chain: [], isTrusted: false },
    'with a signature that is too weak': { certified: await of(by, { hash: 'SHA-1' }), chain: [], isTrusted: false },
    'of an authority with a key that is too short': { certified: await of(short), chain: [short], isTrusted: false },
    'of a client': { certified: await of(leaf), chain: [leaf], isTrusted: false },
    'for servers only': { certified: await of(by, { purposes: purposes.server }), chain: [], isTrusted: false },
    'of an authority for servers only': { certified: await of(ofServers), chain: [ofServers], isTrusted: false },
    'of an authority that has expired': { certified: await of(expired), chain: [expired], isTrusted: false },
    'with an unknown critical extension': {
      certified: await of(by, { hasUnknownCritical: true }),
      chain: [],
      isTrusted: false,
    },
    'of an authority with an unknown critical extension': {
      certified: await of(strange),
      chain: [strange],
      isTrusted: false,
    },
  }
}
