/**
 * `doorbell outbox`: shows notifications with their states and the reasons for the states, and sends parked
 * notifications again. (A parked notification is one that is not retried any more.) The content of a notification is
 * never shown.
 */
import { type Command, Option } from 'commander'
import { isAboutAccount } from '../authentication-device/channels/account-notice.ts'
import { createRequestStore } from '../ciba/authentication-request/authentication-request-store.ts'
import type { Notification, NotificationState, OutboxMessage } from '../outbox/notification.ts'
import { createOutboxStore, type OutboxStore } from '../outbox/outbox-store.ts'
import { type CommandContext, withDatabase } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import { type SettingOptions, withSettings } from './context/settings.ts'
import { count, duration, examples, fromNow, iso, listing, note, print, printJson, table } from './context/terminal.ts'

interface OutboxOptions extends SettingOptions {
  json?: boolean
}

interface ListOptions extends OutboxOptions {
  state?: NotificationState
}

interface RetryOptions extends OutboxOptions {
  allParked?: boolean
}

const states = ['waiting', 'sending', 'delivered', 'parked']

export function addOutbox(program: Command): void {
  const outbox = program.command('outbox').description('Notifications: sent, waiting or parked, and why.')
  examples(outbox, [
    ['npx doorbell outbox', 'the newest 100'],
    ['npx doorbell outbox retry --all-parked', 'send all parked notifications again'],
  ])

  const list = outbox
    .command('list', { isDefault: true })
    .description('List notifications, newest first.')
    .addOption(new Option('--state <state>', 'only those in this state').choices(states))
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runList(command.optsWithGlobals()))
  examples(withSettings(list), [['npx doorbell outbox list --state parked', 'those that need attention']])

  const show = outbox
    .command('show <id>')
    .description('Show what happened to a notification.')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runShow(id, command.optsWithGlobals()))
  examples(withSettings(show), [['npx doorbell outbox show 0199…', 'where it was sent and what the receiver answered']])

  const retry = outbox
    .command('retry [id]')
    .description('Send a parked notification again, with all attempts anew.')
    .option('--all-parked', 'all parked notifications')
    .option('--json', 'answer in JSON')
    .action((id: string | undefined, _options, command: Command) => runRetry(id, command.optsWithGlobals()))
  examples(withSettings(retry), [['npx doorbell outbox retry 0199…', 'once the receiver works again']])
}

async function runList(options: ListOptions): Promise<void> {
  const notifications = await withDatabase(options, ({ database }) => createOutboxStore(database).list(options.state))
  if (options.json) printJson({ notifications: notifications.map(forScripts) })
  else if (notifications.length > 0) {
    print(
      table(['NOTIFICATION', 'KIND', 'TO', 'STATE', 'CREATED', 'ATTEMPTS', 'LAST OUTCOME'], notifications.map(rowOf)),
    )
  } else print(options.state ? `Nothing is ${options.state}.` : 'Nothing has been sent yet.')
}

function forScripts(notification: Notification) {
  return {
    id: notification.id,
    kind: notification.kind,
    state: notification.state,
    [isAboutAccount(notification.kind) ? 'user_id' : 'request_id']: notification.subject,
    to: notification.receiver,
    address: notification.address,
    attempts: notification.attempts,
    last_outcome: notification.lastOutcome,
    created_at: iso(notification.createdAt),
    ...(isUnsettled(notification) && { due_at: iso(notification.dueAt), give_up_at: iso(notification.giveUpAt) }),
    ...(notification.settledAt !== undefined && { settled_at: iso(notification.settledAt) }),
  }
}

function isUnsettled({ state }: Notification): boolean {
  return state === 'waiting' || state === 'sending'
}

function rowOf(notification: Notification): string[] {
  return [
    notification.id,
    notification.kind,
    notification.receiver,
    notification.state,
    fromNow(notification.createdAt),
    String(notification.attempts),
    notification.lastOutcome ?? '',
  ]
}

async function runShow(id: string, options: OutboxOptions): Promise<void> {
  const message = await withDatabase(options, ({ database }) => find(id, createOutboxStore(database)))
  if (options.json) return printJson({ ...forScripts(message), story: storyOf(message) })
  print(storyOf(message))
  print()
  print(
    listing([
      ['notification', message.id],
      ['state', message.state],
      [isAboutAccount(message.kind) ? 'user' : 'request', message.subject],
      ['created', iso(message.createdAt)],
      ['last outcome', message.lastOutcome],
    ]),
  )
}

async function find(id: string, outbox: OutboxStore): Promise<OutboxMessage> {
  const message = await outbox.find(id)
  if (message === undefined) {
    throw new Failure(`There is no notification ${id}. "npx doorbell outbox" lists them with their full ids.`)
  }
  return message
}

/**
 * Describes a notification in a few sentences.
 *
 * @example
 * "A push to till at https://…, created 3 min ago. It was tried 8 times; the last attempt: answered 500. Parked 2 min ago. …"
 */
function storyOf(message: OutboxMessage): string {
  const at = message.address === undefined ? '' : ` at ${message.address}`
  const made = `A ${message.kind} to ${message.receiver}${at}, created ${fromNow(message.createdAt)}.`
  return `${made} ${attemptsOf(message)} ${outlookOf(message)}`
}

function attemptsOf({ attempts, lastOutcome, state }: OutboxMessage): string {
  if (attempts === 0) return 'It has not been tried yet.'
  const last = lastOutcome === undefined ? '' : `; the last attempt: ${lastOutcome}`
  return `It ${state === 'sending' ? 'is being' : 'was'} tried ${attempts === 1 ? 'once' : `${attempts} times`}${last}.`
}

function outlookOf(message: OutboxMessage): string {
  const now = Date.now()
  switch (message.state) {
    case 'delivered':
      return `It arrived ${fromNow(message.settledAt!)}, and its content has been erased.`
    case 'sending':
      return message.dueAt > now
        ? `An attempt is in progress; if its outcome is not recorded, the next one is due ${fromNow(message.dueAt)}.`
        : 'An attempt was started, but its outcome was not recorded. The next one is due as soon as a server runs.'
    case 'waiting':
      return message.dueAt > now
        ? `The next attempt is due ${fromNow(message.dueAt)}.`
        : 'It is due now: a running server sends it.'
    case 'parked':
      return message.sealed === undefined
        ? 'It is parked, and its content has been erased: it cannot be sent any more.'
        : `Parked ${duration(now - message.settledAt!)} ago. It will not be retried automatically; to retry it: "npx doorbell outbox retry ${message.id}".`
  }
}

async function runRetry(id: string | undefined, options: RetryOptions): Promise<void> {
  if ((id === undefined) === !options.allParked) {
    throw new Failure('Name the notification: "npx doorbell outbox retry <id>", or --all-parked for all of them.')
  }
  const retried = await withDatabase(options, (context) =>
    id === undefined ? retryAll(context) : retryOne(id, context),
  )
  if (options.json) printJson({ retried })
  else print(`${count(retried.length, 'notification')} will be sent again. A running server starts within two seconds.`)
}

/**
 * Retries the messages that are parked when the command starts. A message that is parked again while the command runs
 * is not retried a second time, so that the command ends.
 */
async function retryAll(context: CommandContext): Promise<string[]> {
  const outbox = createOutboxStore(context.database)
  const parked = await outbox.list('parked', Number.MAX_SAFE_INTEGER)
  const retried: string[] = []
  for (const one of parked) {
    const giveUpAt = await nextGiveUpAt(one, context)
    if (giveUpAt !== undefined && (await outbox.retry(one.id, context.clock.now(), giveUpAt))) retried.push(one.id)
  }
  const left = parked.length - retried.length
  if (left > 0) {
    note(`${count(left, 'other')} cannot be sent any more: the content has been erased, or a ping is too late.`)
  }
  return retried
}

async function retryOne(id: string, context: CommandContext): Promise<string[]> {
  const outbox = createOutboxStore(context.database)
  const message = await find(id, outbox)
  if (message.state !== 'parked') throw new Failure(`It is ${message.state}, not parked: there is nothing to retry.`)
  const giveUpAt = await nextGiveUpAt(message, context)
  if (giveUpAt === undefined) {
    throw new Failure('It is a ping, and its request has expired: the client cannot collect anything any more.')
  }
  if (!(await outbox.retry(id, context.clock.now(), giveUpAt))) {
    throw new Failure('It cannot be sent any more: its content was erased a day after it was parked.')
  }
  return [id]
}

/**
 * After the command, a message is retried for at least this many milliseconds, even if the deadline of its request has
 * passed.
 */
const anotherChance = 10 * 60_000

/**
 * Resolves to the new `giveUpAt` of a message that is retried. Resolves to undefined for a ping after the deadline of
 * its request, because the client cannot get a result any more.
 */
async function nextGiveUpAt(
  { kind, subject }: Notification,
  { database, clock }: CommandContext,
): Promise<number | undefined> {
  const request = await createRequestStore(database).find(subject)
  const deadline = request?.expiresAt ?? 0
  if (kind === 'ping' && clock.now() >= deadline) return undefined
  return Math.max(deadline, clock.now() + anotherChance)
}
