/**
 * Mail addresses that not every mail server accepts. An address whose local part is not ASCII needs a mail server with
 * SMTPUTF8 (RFC 6531). A domain that is not ASCII works with every mail server, because it is sent in its ASCII form.
 */

/** Returns whether the local part of a mail address contains characters that are not ASCII. */
export function needsSmtpUtf8(address: string): boolean {
  return /\P{ASCII}/u.test(address.slice(0, address.lastIndexOf('@')))
}

/** Returns the address in a `From` header: the text in angle brackets, or the whole value if it has no brackets. */
export const addressIn = (from: string) => /<([^<>]*)>\s*$/.exec(from)?.[1] ?? from

/**
 * Returns options for nodemailer that abort the delivery to a non-ASCII address if the mail server does not offer
 * SMTPUTF8. Without these options, nodemailer would send such an address to any server. Nodemailer logs each command
 * before it sends the command. So the logger in these options sees the command `MAIL FROM`, and aborts the delivery if
 * the command does not request SMTPUTF8.
 */
export function requireSmtpUtf8(abort: AbortController) {
  const ignore = () => {}
  return {
    transactionLog: true,
    logger: {
      level: ignore,
      trace: ignore,
      debug({ tnx }: { tnx?: string }, line: unknown) {
        const isSender = tnx === 'client' && /^MAIL FROM:/.test(String(line))
        if (isSender && !/ SMTPUTF8(?: |$)/.test(String(line))) abort.abort()
      },
      info: ignore,
      warn: ignore,
      error: ignore,
      fatal: ignore,
    },
  }
}
