/** The resources that tokens are for, by their resource indicators (RFC 8707). */

export interface Resource {
  /** The scopes that its tokens may contain. Default: all. */
  scopes?: readonly string[]
  /** The `aud` of its tokens. Default: its address. */
  audience?: string
  /** `opaque` (default): checked by introspection, and invalid once revoked. `jwt`: valid until it expires. */
  accessTokenFormat?: 'opaque' | 'jwt'
  /** Lifetime of its access tokens in seconds. Default: `tokens.accessTtl`. */
  accessTtl?: number
}

/** Resources by address. Addresses are compared as exact strings. */
export type Resources = Readonly<Record<string, Resource>>

/** Whether a resource is configured. */
export function knows(resources: Resources, address: string): boolean {
  return Object.hasOwn(resources, address)
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

/** Returns the part of a scope that a resource accepts. */
export function scopeAt({ scopes }: Resource, scope: string): string {
  return scope
    .split(' ')
    .filter((each) => scopes?.includes(each) ?? true)
    .join(' ')
}
