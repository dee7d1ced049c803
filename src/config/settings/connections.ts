/** Settings of TLS, proxies, client certificates, client assertions and DPoP. */
import { isHeaderName, isRange } from './formats.ts'
import { list, pem, section, text, whole, year, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

export const connectionSettings = {
  tls: section({
    key: setting(pem('key').exactOptional(), 'For TLS without a proxy: the private key.', {
      example: "'server.key'",
      isSketch: true,
    }),
    cert: setting(
      pem('certificate').exactOptional(),
      'The certificate for it, followed by the certificates of the chain up to an authority.',
      { example: "'server.crt'", isSketch: true },
    ),
    clientCa: setting(
      pem('certificates').exactOptional(),
      'The authorities that are trusted for clients with `tls_client_auth`. The handshake does not contain the ' +
        'names of these authorities, because many clients would then send no certificate of another authority ' +
        '([0025](decisions/0025-client-certificates.md)).',
      { example: "'clients-ca.crt'", isSketch: true },
    ),
  }).exactOptional(),
  hsts: section({
    maxAge: setting(
      whole('seconds', 0, 10 * year).default(year),
      'How long browsers use https only: `Strict-Transport-Security` in each response, without subdomains and ' +
        'preloading, where the issuer is https, outside development. The default is a year; 0 tells browsers to ' +
        'forget it.',
    ),
  }).prefault({}),
  proxy: section({
    trust: setting(
      list('an IP address or a range like "10.0.0.0/8"', isRange).default([]),
      'Addresses and CIDR ranges of the proxies whose `X-Forwarded-*` headers are trusted. `X-Forwarded-For` is read ' +
        'from its right end.',
    ),
    clientCertificateHeader: setting(
      text('the name of a header', isHeaderName).exactOptional(),
      'The header in which such a proxy passes on the certificate of the client. The proxy must replace this header in ' +
        'every request. [Client certificates](guides/client-certificates.md) lists the forms that are read.',
      { example: "'X-Client-Cert'", isSketch: true },
    ),
    clientCertificateChainHeader: setting(
      text('the name of a header', isHeaderName).exactOptional(),
      'The header in which such a proxy passes on the rest of the chain, if it is not in ' +
        '`clientCertificateHeader`. If `clientCertificateHeader` is `Client-Cert`, the default is ' +
        '`Client-Cert-Chain`.',
      { example: "'X-Client-Cert-Chain'", isSketch: true },
    ),
    clientCa: setting(pem('certificates').exactOptional(), 'As `tls.clientCa`, where a proxy terminates TLS.', {
      example: "'clients-ca.crt'",
      isSketch: true,
    }),
  }).prefault({}),
  mutualTls: section({
    issuer: setting(
      text('an https address', (address) => /^https:\/\//.test(address) && URL.canParse(address)).exactOptional(),
      'The address at which clients with certificates find the same endpoints, if it differs ' +
        '(`mtls_endpoint_aliases`). Needs `tls` or `proxy.clientCertificateHeader`.',
      { example: "'https://mtls.example.com'", isSketch: true },
    ),
  }).exactOptional(),
  strictAssertionAudience: setting(
    yesOrNo().exactOptional(),
    'Whether the `aud` of client assertions must be the issuer and nothing else, as FAPI 2.0 and the successor of ' +
      'RFC 7523 require it, against CIBA Core §7.1 ([0013](decisions/0013-assertion-audience.md)). In `fapi-ciba` it ' +
      'is `true` unless set.',
    { unlessSet: '`false`', example: 'false' },
  ),
  fetchedKeys: section({
    keepInOutage: setting(
      whole('seconds', 0, 7 * 86_400).default(3600),
      'If a `jwks_uri` cannot be fetched again, keys that were fetched from it stay valid for this time after ' +
        'the last fetch. After that, calls that need these keys are answered with 503. If an attacker makes the ' +
        'address unreachable, a key that its owner has removed stays valid for the same time.',
    ),
  }).prefault({}),
  dpop: section({
    requireNonce: setting(
      yesOrNo().default(false),
      'Whether DPoP proofs must contain a nonce of the server, so that no proof can be made in advance. Clients may ' +
        'always bind their tokens to a key (DPoP).',
    ),
  }).prefault({}),
}
