// Run beside an installed package: one user code is hashed, in a thread whose program must have been packed as well.
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createDoorbell } from 'doorbell-ciba'

const secret = 'a secret of the till, in this check'
const doorbell = await createDoorbell({
  issuer: 'https://id.example.com',
  secret: Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url'),
  database: 'sqlite::memory:',
  logLevel: 'error',
  users: [{ username: 'ana', user_code: 'heron-4711' }],
  clients: [
    {
      client_id: 'till',
      client_secret: secret,
      backchannel_token_delivery_mode: 'poll',
      backchannel_user_code_parameter: true,
    },
  ],
})
const server = createServer(doorbell.handler).listen(0, '127.0.0.1')
await once(server, 'listening')
const answer = await fetch(`http://127.0.0.1:${server.address().port}/backchannel/authorize`, {
  method: 'POST',
  headers: { authorization: `Basic ${btoa(`till:${encodeURIComponent(secret)}`)}` },
  body: new URLSearchParams({ scope: 'openid', login_hint: 'ana', user_code: 'heron-4711' }),
})
console.log(answer.status, await answer.text())
server.close()
server.closeAllConnections()
await doorbell.close()
process.exitCode = answer.status === 200 ? 0 : 1
