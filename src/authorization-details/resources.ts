/** The services that tokens are for, by the addresses clients know them by (RFC 8707). */

export interface Resource {
  /** What it understands of what is asked for; everything unless told. Its tokens carry nothing else (RI-5). */
  scopes?: readonly string[]
  /** The `aud` of its tokens; its address unless told. */
  audience?: string
  /** `opaque` unless told: to be introspected, and gone when taken back. A `jwt` is good until it runs out. */
  accessTokenFormat?: 'opaque' | 'jwt'
  /** Life of its access tokens in seconds; `tokens.accessTtl` unless told. */
  accessTtl?: number
}

/** By address, compared letter by letter. */
export type Resources = Readonly<Record<string, Resource>>

export function knows(resources: Resources, address: string): boolean {
  return Object.hasOwn(resources, address)
}

/** An absolute URI without a fragment, in one spelling: no spaces, no control characters (RI-1). */
export function isResourceAddress(address: unknown): address is string {
  return (
    typeof address === 'string' &&
    address.length <= 2048 &&
    /^[a-z][a-z0-9+.-]*:[\x21\x22\x24-\x7e]+$/i.test(address) &&
    URL.canParse(address)
  )
}

/** What details may call a resource: its address, or the `aud` of its tokens. */
export function namesOf(address: string, { audience }: Resource): string[] {
  return audience === undefined ? [address] : [address, audience]
}

/** What of a scope a resource understands. */
export function scopeAt({ scopes }: Resource, scope: string): string {
  return scope
    .split(' ')
    .filter((each) => scopes?.includes(each) ?? true)
    .join(' ')
}
