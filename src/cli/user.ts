/** `doorbell user`: the built-in user directory. */
import { randomInt } from 'node:crypto'
import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import type { AuditEventName } from '../audit.ts'
import { didYouMean, nearest } from '../complaint.ts'
import type { Config } from '../config/config.ts'
import { readUsers } from '../config/users.ts'
import { createPasskeyStore } from '../passkey/passkey-store.ts'
import { createPasswordHashing, passwordOf, userCodeOf } from '../password/password-hashing.ts'
import { scryptHere } from '../password/scrypt.ts'
import { newSecret, type Vault } from '../secret.ts'
import type { ConfiguredUser, User } from '../user-hint/user.ts'
import { isUserCode } from '../user-hint/user-code.ts'
import { createUserCodeStore } from '../user-hint/user-code-store.ts'
import { createUserStore, type UserStore } from '../user-hint/user-store.ts'
import { atDesk, atNewDesk } from './desk.ts'
import { Failure } from './failure.ts'
import { type SettingOptions, withSettings } from './settings.ts'
import { examples, ink, listing, print, printJson, table } from './terminal.ts'

interface UserOptions extends SettingOptions {
  json?: boolean
}

interface AddOptions extends UserOptions {
  id?: string
  username?: string
  email?: string
  phone?: string
  name?: string
  locale?: string
  passwordStdin?: boolean
}

interface CodeOptions extends UserOptions {
  codeStdin?: boolean
  remove?: boolean
}

export function addUser(program: Command): void {
  const user = program.command('user').description('The built-in user directory: add, list, lock, remove.')
  examples(user, [['npx doorbell user list', 'who can be asked']])

  const add = user
    .command('add')
    .description('Add a user. A password is made and shown once, unless one is given.')
    .option('--id <id>', 'becomes "sub" in tokens, for ever; the username or email unless given')
    .option('--username <name>')
    .option('--email <address>')
    .option('--phone <number>')
    .option('--name <name>', 'what the user is called')
    .option('--locale <tag>', 'the language of the pages, like "en" or "de-AT"')
    .option('--password-stdin', 'read the password from standard input')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runAdd(command.optsWithGlobals()))
  examples(withSettings(add), [
    ['npx doorbell user add --email dora@example.com --name Dora', 'a user who is found by her email address'],
    [
      'npx doorbell user add --username dora --password-stdin < password.txt',
      'the same for a username and a password of her own',
    ],
  ])

  const code = user
    .command('code <id>')
    .description(
      'Set the code a user has to give to clients that ask for one. It is made and shown once, unless given.',
    )
    .option('--code-stdin', 'read the code from standard input')
    .option('--remove', 'take the code away')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runCode(id, command.optsWithGlobals()))
  examples(withSettings(code), [
    ['npx doorbell user code dora', 'a code for dora, who can change it on /user-code'],
    ['npx doorbell user code dora --remove', 'nobody asks dora for a code any more'],
  ])

  const list = user
    .command('list')
    .description('List the users of the configuration and those added by command.')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runList(command.optsWithGlobals()))
  examples(withSettings(list), [['npx doorbell user list --json', 'for a script']])

  const lock = user
    .command('lock <id>')
    .description('Disable a user who was added by command, at once: nothing is asked, decided or issued in their name.')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runLock(id, true, command.optsWithGlobals()))
  examples(withSettings(lock), [['npx doorbell user lock dora', 'her phone is lost']])

  const unlock = user
    .command('unlock <id>')
    .description('Let a locked user in again.')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runLock(id, false, command.optsWithGlobals()))
  examples(withSettings(unlock), [['npx doorbell user unlock dora', 'her phone is found']])

  const remove = user
    .command('remove <id>')
    .description('Remove a user who was added by command.')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runRemove(id, command.optsWithGlobals()))
  examples(withSettings(remove), [['npx doorbell user remove dora', 'nobody can ask her any more']])

  const forget = user
    .command('forget-passkeys <id>')
    .description('Forget all passkeys of a user who has lost them: the next sign-in is with the password.')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runForgetPasskeys(id, command.optsWithGlobals()))
  examples(withSettings(forget), [['npx doorbell user forget-passkeys dora', 'she can add a new one then']])
}

async function runAdd(options: AddOptions): Promise<void> {
  const given = options.passwordStdin ? await readSecret('password') : undefined
  const password = given ?? newSecret(12)
  const added = await atNewDesk(options, async ({ config, database, vault, clock, audit }) => {
    const user = check(options, configuredUsers(config))
    const passwordHash = await hashingWith(vault).hash(password, passwordOf(user.id))
    if (!(await createUserStore(database).add({ ...user, passwordHash }, clock.now()))) {
      throw new Failure(`There is a user with this id, username, email or phone already: "npx doorbell user list".`)
    }
    audit({ event: 'user.added', user: user.id, by: 'command' })
    return user
  })
  const made = given === undefined ? password : undefined
  if (options.json) return printJson({ ...added, ...(made !== undefined && { password: made }) })
  print(`Added ${ink('bold', added.id)}.`)
  print()
  print(listing([...entriesOf(added), ['password', made]], '  '))
  if (made === undefined) return
  print()
  print('The password is shown this once: tell it to the user in a safe way.')
}

/** With the secret of the configuration: a hash made with another matches nothing at the server. */
const hashingWith = (vault: Vault) => createPasswordHashing({ vault, scrypt: scryptHere })

async function readSecret(what: 'password' | 'code'): Promise<string> {
  const name = what === 'password' ? 'Password' : 'Code'
  if (process.stdin.isTTY) process.stderr.write(`${name} (it will be visible; end with Enter and Ctrl-D): `)
  const secret = (await readAll(process.stdin)).replace(/\r?\n$/, '')
  if (secret === '') throw new Failure(`The ${what} on standard input is empty.`)
  return secret
}

/** With hooks, the users are the application's, and the built-in directory is asked nothing. */
function configuredUsers({ users }: Config): readonly ConfiguredUser[] {
  if (Array.isArray(users)) return users
  throw new Failure('This configuration asks its own hooks for users; the built-in directory is not in use.')
}

function check(options: AddOptions, configured: readonly ConfiguredUser[]): User {
  const entry = {
    id: options.id,
    username: options.username,
    email: options.email,
    phone_number: options.phone,
    name: options.name,
    locale: options.locale,
  }
  const read = readUsers([...configured, entry])
  if (read.complaints.length > 0 || !Array.isArray(read.users)) {
    const complaints = new Set(read.complaints.map((complaint) => inOwnWords(complaint, configured.length)))
    throw new Failure(`This user cannot be added:\n${[...complaints].map((words) => `  - ${words}`).join('\n')}`)
  }
  return read.users.at(-1)!
}

/** A complaint about an entry of a list, said of the one user who is to be added. */
function inOwnWords(complaint: string, index: number): string {
  return complaint
    .replace(`users[${index}]`, '')
    .replace(/^[. ]/, '')
    .replace(/is the same as users\[\d+\]\.\w+$/, 'is that of a user of the configuration')
}

function entriesOf(user: User): [string, string | undefined][] {
  return [
    ['id', user.id],
    ['username', user.username],
    ['email', user.email],
    ['phone', user.phone_number],
    ['name', user.name],
    ['locale', user.locale],
  ]
}

async function runCode(id: string, options: CodeOptions): Promise<void> {
  const given = options.codeStdin ? await readSecret('code') : undefined
  if (given !== undefined && !isUserCode(given))
    throw new Failure('A code has 4 to 64 characters, all of them visible.')
  const code = options.remove ? undefined : (given ?? String(randomInt(1_000_000)).padStart(6, '0'))
  await atDesk(options, async ({ config, database, vault, clock, audit }) => {
    const known = configuredUsers(config).some((user) => user.id === id) || (await createUserStore(database).find(id))
    if (!known) throw new Failure(`There is no user ${id}; "npx doorbell user list" names them.`)
    const hash = code && (await hashingWith(vault).hash(code, userCodeOf(id)))
    await createUserCodeStore(database).put(id, hash, clock.now())
    audit({ event: code === undefined ? 'user_code.removed' : 'user_code.set', user: id, by: 'command' })
  })
  const made = given === undefined ? code : undefined
  if (options.json) return printJson({ id, code_set: code !== undefined, ...(made !== undefined && { code: made }) })
  if (code === undefined) return print(`${id} has no code any more.`)
  print(`${ink('bold', id)} has a code now.`)
  if (made === undefined) return
  print()
  print(listing([['code', made]], '  '))
  print()
  print('It is shown this once: tell it to the user in a safe way. They can change it on /user-code.')
}

interface ListedUser {
  user: User
  from: 'configuration' | 'command'
}

async function runList(options: UserOptions): Promise<void> {
  const users = await atDesk(options, async ({ config, database }): Promise<ListedUser[]> => {
    const added = await createUserStore(database).list()
    return [
      ...configuredUsers(config).map((user) => ({ user, from: 'configuration' as const })),
      ...added.map((user) => ({ user, from: 'command' as const })),
    ]
  })
  if (options.json) printJson({ users: users.map(forScripts) })
  else if (users.length > 0)
    print(table(['USER', 'USERNAME', 'EMAIL', 'PHONE', 'NAME', 'LOCALE', 'FROM'], users.map(rowOf)))
  else print('There are no users yet. "npx doorbell user add --help" says how.')
}

/** Named one by one, so that no password and no hash gets in by itself. */
function forScripts({ user, from }: ListedUser) {
  const { id, username, email, phone_number, name, locale, disabled, claims } = user
  return { id, username, email, phone_number, name, locale, disabled: disabled ?? false, claims, origin: from }
}

function rowOf({ user, from }: ListedUser): string[] {
  const columns = [user.id, user.username, user.email, user.phone_number, user.name, user.locale]
  return [...columns.map((cell) => cell ?? ''), user.disabled ? `${from} (disabled)` : from]
}

async function runLock(id: string, locked: boolean, options: UserOptions): Promise<void> {
  await change(id, options, locked ? 'user.locked' : 'user.unlocked', (users) => users.setDisabled(id, locked))
  if (options.json) printJson({ [locked ? 'locked' : 'unlocked']: id })
  else print(locked ? `Locked ${id}.` : `${id} may sign in and decide again.`)
}

async function runRemove(id: string, options: UserOptions): Promise<void> {
  await change(id, options, 'user.removed', (users) => users.remove(id))
  if (options.json) printJson({ removed: id })
  else print(`Removed ${id}. Nobody can ask this user any more.`)
}

/** Only users added by command can be changed by command. */
async function change(
  id: string,
  options: UserOptions,
  event: AuditEventName,
  work: (users: UserStore) => Promise<boolean>,
): Promise<void> {
  await atDesk(options, async ({ config, database, audit }) => {
    const users = createUserStore(database)
    if (await work(users)) return audit({ event, user: id, by: 'command' })
    if (configuredUsers(config).some((user) => user.id === id)) {
      throw new Failure(`${id} comes from the configuration. Take the user out there and start the server again.`)
    }
    const ids = (await users.list()).map((user) => user.id)
    throw new Failure(
      `There is no user ${id}${didYouMean(nearest(id, ids)) || '; "npx doorbell user list" names them.'}`,
    )
  })
}

/** Users remove their own, but only after signing in with one: whoever has lost them all comes to the operator. */
async function runForgetPasskeys(id: string, options: UserOptions): Promise<void> {
  const forgotten = await atDesk(options, async ({ database, audit }) => {
    const removed = await createPasskeyStore(database).removeAllOf(id)
    if (removed > 0) audit({ event: 'passkey.removed', user: id, by: 'command' })
    return removed
  })
  if (options.json) return printJson({ user: id, forgotten })
  if (forgotten === 0) throw new Failure(`${id} has no passkeys; "npx doorbell user list" names the users.`)
  print(`Forgot ${forgotten} ${forgotten === 1 ? 'passkey' : 'passkeys'} of ${id}.`)
}
