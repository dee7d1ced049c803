/** The resources (RFC 8707) of a token request that is forwarded to oidc-provider. */
import { configuredAddress, type Resources } from '../authorization-details/resources.ts'
import { allOf, type Form } from '../platform/http/form.ts'

/**
 * Returns the body of a form with each `resource` in the spelling of the configuration, because oidc-provider compares
 * resources as exact strings. Unknown resources stay as they are. If nothing changes, returns `body` itself.
 */
export function withConfiguredResources(body: Buffer, form: Form | undefined, resources: Resources): Buffer {
  const named = form === undefined ? [] : allOf(form, 'resource')
  if (named.every((address) => (configuredAddress(resources, address) ?? address) === address)) return body
  const pairs = [...new URLSearchParams(body.toString())].map(([name, value]): [string, string] =>
    name === 'resource' ? [name, configuredAddress(resources, value) ?? value] : [name, value],
  )
  return Buffer.from(String(new URLSearchParams(pairs)))
}
