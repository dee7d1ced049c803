/**
 * Addresses that not every mail server accepts. A local part with other characters than ASCII needs SMTPUTF8 (RFC 6531) at
 * the mail server; a domain with other characters is sent in its ASCII form.
 */

/** Whether the local part of a mail address contains other characters than ASCII. */
export function needsSmtpUtf8(address: string): boolean {
  return /\P{ASCII}/u.test(address.slice(0, address.lastIndexOf('@')))
}

/** Returns the address of a `From` header: within angle brackets, or the whole value. */
export const addressIn = (from: string) => /<([^<>]*)>\s*$/.exec(from)?.[1] ?? from

/**
 * Returns options for nodemailer, which sends such an address even to a server that does not offer SMTPUTF8. Aborts `abort`
 * before the command with the sender is sent, if this command does not ask for SMTPUTF8.
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
