/** Settings of TLS, proxies, client certificates, client assertions and DPoP. */
import { isHeaderName, isRange } from './formats.ts'
import { list, pem, section, text, whole, year, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

export const connectionSettings = {
  tls: section({
    key: setting(pem('key').exactOptional(), 'The private key, if this server terminates TLS itself.', {
      example: "'server.key'",
      isSketch: true,
    }),
    cert: setting(
      pem('certificate').exactOptional(),
      'The certificate for `tls.key`, followed by the intermediate certificates up to a certificate authority.',
      { example: "'server.crt'", isSketch: true },
    ),
    clientCa: setting(
      pem('certificates').exactOptional(),
      'The certificate authorities that are trusted for clients with `tls_client_auth`. The TLS handshake does not ' +
        'contain the names of these authorities: with them, many clients would send no certificate of another issuer ' +
        '([0025](decisions/0025-client-certificates.md)).',
      { example: "'clients-ca.crt'", isSketch: true },
    ),
  }).exactOptional(),
  hsts: section({
    maxAge: setting(
      whole('seconds', 0, 10 * year).default(year),
      'How long browsers use only https for this host: `max-age` of the header `Strict-Transport-Security`, without ' +
        'subdomains and preloading. Every response has this header if the issuer is https, except in development. ' +
        'The default is a year; 0 tells browsers to forget the rule.',
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
      'The header in which a proxy in `proxy.trust` passes on the certificate of the client. The proxy must replace ' +
        'this header in every request. [Client certificates](guides/client-certificates.md) lists the forms that are ' +
        'read.',
      { example: "'X-Client-Cert'", isSketch: true },
    ),
    clientCertificateChainHeader: setting(
      text('the name of a header', isHeaderName).exactOptional(),
      'The header in which a proxy in `proxy.trust` passes on the rest of the certificate chain, if it is not in ' +
        '`clientCertificateHeader`. If `clientCertificateHeader` is `Client-Cert`, the default is ' +
        '`Client-Cert-Chain`.',
      { example: "'X-Client-Cert-Chain'", isSketch: true },
    ),
    clientCa: setting(
      pem('certificates').exactOptional(),
      'The certificate authorities that are trusted for clients with `tls_client_auth`, if a proxy terminates TLS.',
      { example: "'clients-ca.crt'", isSketch: true },
    ),
  }).prefault({}),
  mutualTls: section({
    issuer: setting(
      text('an https address', (address) => /^https:\/\//.test(address) && URL.canParse(address)).exactOptional(),
      'The base address of the endpoints for clients that use certificates, if it differs from `issuer` ' +
        '(`mtls_endpoint_aliases`). Needs `tls` or `proxy.clientCertificateHeader`.',
      { example: "'https://mtls.example.com'", isSketch: true },
    ),
  }).exactOptional(),
  strictAssertionAudience: setting(
    yesOrNo().exactOptional(),
    'Whether the `aud` of client assertions must be the issuer and nothing else. FAPI 2.0 and the successor of RFC ' +
      '7523 require this; CIBA Core §7.1 also allows addresses of endpoints ' +
      '([0013](decisions/0013-assertion-audience.md)). With the profile `fapi-ciba`, the default is `true`.',
    { unlessSet: '`false`', example: 'false' },
  ),
  fetchedKeys: section({
    keepInOutage: setting(
      whole('seconds', 0, 7 * 86_400).default(3600),
      'If a `jwks_uri` cannot be fetched again, or not now because too many other fetches are in progress, its keys ' +
        'stay valid for this time after the last successful fetch. After that, calls that need these keys are ' +
        'answered with 503. If an attacker makes the `jwks_uri` unreachable or keeps fetches in progress, a key that ' +
        'its owner has removed stays valid just as long.',
    ),
  }).prefault({}),
  dpop: section({
    requireNonce: setting(
      yesOrNo().default(false),
      'Whether DPoP proofs must contain a nonce of the server, so that no proof can be made in advance. Clients may ' +
        'use DPoP in both cases.',
    ),
  }).prefault({}),
}
