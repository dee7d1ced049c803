/** The resources that tokens are for, by their resource indicators (RFC 8707). */

export interface Resource {
  /** The scopes that tokens for this resource may contain. Default: all. */
  scopes?: readonly string[]
  /** The `aud` of tokens for this resource. Default: the address of the resource. */
  audience?: string
  /**
   * The format of access tokens. `opaque` (default): the resource server checks the token by introspection, so a
   * revoked token is invalid at once. `jwt`: the token is valid until it expires, even if it is revoked.
   */
  accessTokenFormat?: 'opaque' | 'jwt'
  /** Lifetime of access tokens for this resource, in seconds. Default: `tokens.accessTtl`. */
  accessTtl?: number
}

/** Resources by address. */
export type Resources = Readonly<Record<string, Resource>>

/** A cache: for each `Resources`, the configured addresses by their normal form. */
const byNormalForm = new WeakMap<Resources, Map<string, string>>()

/**
 * Returns the address of a resource as spelled in the configuration, or undefined if the resource is not configured.
 * Clients may spell the address differently. For example, some libraries add a slash to an address without a path.
 */
export function configuredAddress(resources: Resources, address: string): string | undefined {
  if (Object.hasOwn(resources, address)) return address
  let configured = byNormalForm.get(resources)
  if (configured === undefined) {
    configured = new Map(Object.keys(resources).map((each) => [normalForm(each), each]))
    byNormalForm.set(resources, configured)
  }
  return configured.get(normalForm(address))
}

/** Returns the configured resource with this address, or undefined. */
export function resourceAt(resources: Resources, address: string): Resource | undefined {
  const configured = configuredAddress(resources, address)
  return configured === undefined ? undefined : resources[configured]
}

/** Whether two addresses have the same normal form. */
export function isSameAddress(one: string, other: string): boolean {
  return one === other || normalForm(one) === normalForm(other)
}

/**
 * Returns the normal form of an address: scheme and host in lower case, no default port, no `.` and `..` in the path,
 * `/` in place of an empty path, no unnecessary percent-encoding, and `%2F` instead of `%2f` (RFC 3986 §6.2.2, §6.2.3).
 * A text that is not an address is returned unchanged.
 */
function normalForm(address: string): string {
  return URL.parse(address)?.href.replace(/%[0-9a-f]{2}/gi, normalTriplet) ?? address
}

function normalTriplet(triplet: string): string {
  const character = String.fromCharCode(Number.parseInt(triplet.slice(1), 16))
  return /[A-Za-z0-9._~-]/.test(character) ? character : triplet.toUpperCase()
}

/** Whether a value is an absolute URI without a fragment (RFC 8707 §2), and without spaces or control characters. */
export function isResourceAddress(address: unknown): address is string {
  return (
    typeof address === 'string' &&
    address.length <= 2048 &&
    /^[a-z][a-z0-9+.-]*:[\x21\x22\x24-\x7e]+$/i.test(address) &&
    URL.canParse(address)
  )
}

/** Returns the names by which `locations` can refer to a resource: its address, and the `aud` of its tokens. */
export function namesOf(address: string, { audience }: Resource): string[] {
  return audience === undefined ? [address] : [address, audience]
}

/** Returns the scopes in `scope` that the resource accepts, separated by spaces. */
export function scopeAt({ scopes }: Resource, scope: string): string {
  return scope
    .split(' ')
    .filter((each) => scopes?.includes(each) ?? true)
    .join(' ')
}
