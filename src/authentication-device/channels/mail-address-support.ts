/**
 * Addresses that not every mail server accepts. A local part with other characters than ASCII needs SMTPUTF8 (RFC 6531) at
 * the mail server; a domain with other characters is sent in its ASCII form.
 */

/** Returns whether the local part of a mail address contains characters that are not ASCII. */
export function needsSmtpUtf8(address: string): boolean {
  return /\P{ASCII}/u.test(address.slice(0, address.lastIndexOf('@')))
}

/** Returns the address of a `From` header: within angle brackets, or the whole value. */
export const addressIn = (from: string) => /<([^<>]*)>\s*$/.exec(from)?.[1] ?? from

/**
 * Returns options for nodemailer that abort the delivery to a non-ASCII address if the mail server does not offer
 * SMTPUTF8. Nodemailer itself would send such an address to any server. Nodemailer logs each command before it sends
 * the command. If the command `MAIL FROM` does not request SMTPUTF8, the logger aborts the delivery.
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
