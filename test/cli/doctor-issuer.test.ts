/** `doorbell doctor`: the server at the address of the issuer. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type ServerOptions } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { certify, certifyServer } from '../support/certificates.ts'
import { freePort } from '../support/ports.ts'
import { openTerminal } from './terminal.ts'

interface Finding {
  about: string
  state: string
  says: string
  advice?: string
}

test('a server that cannot be called: the code of the error, and advice by code', async (t) => {
  const { server } = await certifyServer()
  const expired = await certify({ subject: 'CN=x', names: [{ type: 'dns', value: 'localhost' }], from: -9, until: -2 })
  const other = await certify({ subject: 'CN=x', names: [{ type: 'dns', value: 'other.example' }] })
  const plain = await listening(t, createHttpServer())
  for (const [issuer, says, advice] of [
    [`https://localhost:${await freePort()}`, /^no server listens at .* \(ECONNREFUSED\)$/, /^start the server/],
    ['https://nowhere.invalid', /^the name nowhere\.invalid cannot be resolved \(E/, /DNS/],
    [await listeningWith(t, server), /^the certificate of .* is not accepted \(UNABLE_TO_/, /NODE_EXTRA_CA_CERTS/],
    [await listeningWith(t, expired), /is not accepted \((CERT_HAS_EXPIRED|DEPTH_ZERO_SELF)/, /./],
    [await listeningWith(t, other), /is not accepted \((ERR_TLS_CERT_ALTNAME|DEPTH_ZERO_SELF)/, /./],
    [`https://localhost:${plain}`, /cannot be called \(ERR_SSL_/, /does the server there speak TLS/],
  ] as const) {
    const finding = await issuerIn(t, { issuer })
    assert.equal(finding.state, 'warn')
    assert.match(finding.says, says)
    assert.match(finding.advice!, advice)
  }
})

test('another Doorbell at the address of the issuer, with another database', async (t) => {
  const port = await freePort()
  const config = { development: true, port, issuer: `http://localhost:${port}` }
  const terminal = await openTerminal(t, { DOORBELL_SECRET: newSecret() })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
  const server = await terminal.serve([])
  const { findings } = (await terminal.json(['doctor'])) as { findings: Finding[] }
  assert.equal(findings.find(({ about }) => about === 'issuer')?.state, 'ok')

  for (const isPrepared of [false, true]) {
    const finding = await issuerIn(t, config, isPrepared)
    assert.equal(finding.state, 'fail')
    assert.equal(finding.says, `the server at ${config.issuer} uses another database than this command`)
    assert.match(finding.advice!, /^another Doorbell listens there/)
  }
  server.process.kill()
  await server.ended
})

async function issuerIn(t: TestContext, config: object, isPrepared = false): Promise<Finding> {
  const terminal = await openTerminal(t, { DOORBELL_SECRET: newSecret() })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
  if (isPrepared) await terminal.run(['user', 'add', '--username', 'ana'])
  const { findings } = (await terminal.json(['doctor'])) as { findings: Finding[] }
  return findings.find(({ about }) => about === 'issuer')!
}

async function listeningWith(t: TestContext, { key, cert }: ServerOptions): Promise<string> {
  return `https://localhost:${await listening(t, createServer({ key, cert }))}`
}

async function listening(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
  t.after(() => server.close())
  return (server.address() as AddressInfo).port
}
