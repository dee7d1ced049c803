#!/bin/sh
# Package:   nodemailer 10.6.0
# Set-up:    A mail server on this machine offers 8BITMIME, but not SMTPUTF8 (RFC 6531). A mail goes to jörg@example.com.
# Guess:     The mail is refused with an error, because its envelope needs SMTPUTF8 (RFC 6531 §3.2: the client must not send
#            such an address to a server that does not offer the extension).
# Behaviour: nodemailer leaves out the parameter SMTPUTF8 and sends the address in UTF-8. A server that does not look at the
#            bytes accepts the mail, and nodemailer reports it as accepted. Who needs to know has to watch the command
#            MAIL FROM, through the options transactionLog and logger.
# Output:    the server read "MAIL FROM:<a@example.com>" and "RCPT TO:<jörg@example.com>"; nodemailer says: accepted
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund nodemailer@10.6.0 >/dev/null
cat > try.mjs <<'EOS'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { createTransport } from 'nodemailer'

const commands = []
const server = createServer((socket) => {
  let isData = false
  socket.write('220 mail.example ESMTP\r\n')
  createInterface({ input: socket }).on('line', (line) => {
    if (isData) {
      if (line !== '.') return
      isData = false
      socket.write('250 accepted\r\n')
    } else if (/^EHLO/.test(line)) socket.write('250-mail.example\r\n250 8BITMIME\r\n')
    else {
      if (/^(MAIL|RCPT)/.test(line)) commands.push(line)
      isData = line === 'DATA'
      socket.write(isData ? '354 go on\r\n' : '250 fine\r\n')
    }
  })
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const transport = createTransport({ host: '127.0.0.1', port: server.address().port, ignoreTLS: true })
const mail = { from: 'a@example.com', to: { name: '', address: 'jörg@example.com' }, subject: 's', text: 't' }
const said = await transport.sendMail(mail).then(
  ({ rejected }) => (rejected.length === 0 ? 'accepted' : 'rejected'),
  ({ code }) => code,
)
server.close()
console.log(`the server read ${commands.map((line) => JSON.stringify(line)).join(' and ')}; nodemailer says: ${said}`)
const isAsDescribed = said === 'accepted' && commands.join() === 'MAIL FROM:<a@example.com>,RCPT TO:<jörg@example.com>'
process.exit(isAsDescribed ? 0 : 1)
EOS
node try.mjs
