/** `doorbell user`: adds, changes and lists the users of the built-in user directory. */
import { randomInt } from 'node:crypto'
import type { Command } from 'commander'
import { readUsers } from '../config/users.ts'
import { clockDifferenceMs, erasedAs } from '../endings/end-user.ts'
import { newId, newSecret } from '../platform/crypto.ts'
import { isExternalUserId } from '../user/external-user-id.ts'
import { createPasskeyStore } from '../user/passkey/passkey-store.ts'
import { passwordOf, userCodeOf } from '../user/password/password-hashing.ts'
import type { ConfiguredUser, User } from '../user/user.ts'
import { isUserCode } from '../user/user-code/user-code.ts'
import { createUserCodeStore } from '../user/user-code/user-code-store.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { createUserStore } from '../user/user-store.ts'
import { withDatabase, withNewDatabase } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import { type SettingOptions, withSettings } from './context/settings.ts'
import { colour, examples, iso, listing, print, printJson, table } from './context/terminal.ts'
import { noticesOfChange } from './notices-of-change.ts'
import { addUserEndings } from './user-endings.ts'
import {
  configuredUsers,
  hashingWith,
  idOf,
  named,
  notAdded,
  readSecret,
  refuseWeakCode,
  refuseWeakPassword,
  shortNameOf,
} from './which-user.ts'

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
  samePerson?: boolean
}

interface CodeOptions extends UserOptions {
  codeStdin?: boolean
  remove?: boolean
}

export function addUser(program: Command): void {
  const user = program
    .command('user')
    .description(
      'The built-in user directory: add, list, lock, remove and erase users, set passwords and codes, end sessions.',
    )
  examples(user, [['npx doorbell user list', 'the users']])

  const add = user
    .command('add')
    .description('Add a user. A password is generated and shown once, unless one is given.')
    .option('--id <id>', 'becomes "sub" in tokens, permanently; generated unless given')
    .option('--same-person', 'the given id belonged to the same person before')
    .option('--username <name>')
    .option('--email <address>')
    .option('--phone <number>')
    .option('--name <name>', 'the name of the user')
    .option('--locale <tag>', 'the language of the pages, like "en" or "de-AT"')
    .option('--password-stdin', 'read the password from standard input')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runAdd(command.optsWithGlobals()))
  examples(withSettings(add), [
    ['npx doorbell user add --email dora@example.com --name Dora', 'a user who is found by her email address'],
    [
      'npx doorbell user add --username dora --password-stdin < password.txt',
      'the same with a username and a given password',
    ],
  ])

  const code = user
    .command('code <user>')
    .description(
      'Set the user code that clients must send for this user. A code is generated and shown once, unless given.',
    )
    .option('--code-stdin', 'read the code from standard input')
    .option('--remove', 'remove the code')
    .option('--json', 'answer in JSON')
    .action((who: string, _options, command: Command) => runCode(who, command.optsWithGlobals()))
  examples(withSettings(code), [
    ['npx doorbell user code dora', 'a code for dora, who can change it on /user-code'],
    ['npx doorbell user code dora --remove', 'clients need no code for dora any more'],
  ])

  const list = user
    .command('list')
    .description(
      'List the users of the configuration, those added by command, and those created at their first sign-in.',
    )
    .option('--removed', 'list the ids of removed users, whose history is kept, instead')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runList(command.optsWithGlobals()))
  examples(withSettings(list), [
    ['npx doorbell user list --json', 'for a script'],
    ['npx doorbell user list --removed', 'the ids for "npx doorbell user erase"'],
  ])

  addUserEndings(user)

  const forget = user
    .command('forget-passkeys <user>')
    .description('Remove all passkeys of a user who has lost them: the next sign-in is with the password.')
    .option('--json', 'answer in JSON')
    .action((who: string, _options, command: Command) => runForgetPasskeys(who, command.optsWithGlobals()))
  examples(withSettings(forget), [['npx doorbell user forget-passkeys dora', 'she can add a new one then']])
}

async function runAdd(options: AddOptions): Promise<void> {
  const given = options.passwordStdin ? await readSecret('password') : undefined
  const password = given ?? newSecret(12)
  const added = await withNewDatabase(options, async ({ config, database, vault, clock, audit }) => {
    const now = clock.now()
    const user = check({ ...options, id: options.id ?? newId(now) }, configuredUsers(config))
    refuseWeakPassword(given, user, config)
    const users = createUserStore(database)
    const usedIds = [user.id, erasedAs(user.id, vault)]
    const isSamePerson = options.samePerson ?? false
    const passwordHash = await hashingWith(vault).hash(password, passwordOf(user.id))
    if (!(await users.add({ ...user, passwordHash }, now, { usedIds, isSamePerson }))) {
      throw new Failure(
        (await createUserGenerationStore(database).closedOf(usedIds)).size > 0
          ? `The id ${user.id} belonged to another user before: clients would take this user for that one. Leave out --id, or give --same-person.`
          : 'There is a user with this id, username, email or phone already: "npx doorbell user list".',
      )
    }
    audit({ event: 'user.added', user: user.id, by: 'command' })
    return user
  })
  const made = given === undefined ? password : undefined
  if (options.json) return printJson({ ...added, ...(made !== undefined && { password: made }) })
  const name = shortNameOf(added)
  print(`Added ${colour('bold', name)}${name === added.id ? '' : ` (id ${added.id})`}.`)
  print()
  print(listing([...entriesOf(added), ['password', made]], '  '))
  if (made === undefined) return
  print()
  print('The password is shown only once: give it to the user in a safe way.')
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
  if (read.problems.length > 0 || !Array.isArray(read.users)) {
    const problems = new Set(read.problems.map((problem) => inOwnWords(problem, configured.length)))
    throw new Failure(`This user cannot be added:\n${[...problems].map((words) => `  - ${words}`).join('\n')}`)
  }
  return read.users.at(-1)!
}

/**
 * Rewrites a problem in the list of users as a problem of the one user that the command adds. For instance, `users[3]`
 * is removed from the text.
 */
function inOwnWords(problem: string, index: number): string {
  return problem
    .replace(`users[${index}]`, '')
    .replace(/^[. ]/, '')
    .replace(/is the same as users\[\d+\]\.\w+$/, 'is that of a user in the configuration')
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

async function runCode(who: string, options: CodeOptions): Promise<void> {
  const given = options.codeStdin ? await readSecret('code') : undefined
  if (given !== undefined && !isUserCode(given))
    throw new Failure('A code has 4 to 64 characters, all of them visible.')
  const code = options.remove ? undefined : (given ?? String(randomInt(1_000_000)).padStart(6, '0'))
  const id = await withDatabase(options, async (context) => {
    const { config, database, vault, clock, audit } = context
    const users = createUserStore(database)
    const id = await idOf(who, configuredUsers(config), users)
    const known = configuredUsers(config).find((user) => user.id === id) ?? (await users.find(id))
    if (!known) throw await notAdded(who, id, context, users)
    refuseWeakCode(given, known, config)
    const hash = code && (await hashingWith(vault).hash(code, userCodeOf(id)))
    const notices = code === undefined ? [] : noticesOfChange({ type: 'user_code.set', userId: id }, context)
    if (!(await createUserCodeStore(database).put(id, hash, clock.now(), { notices }))) {
      throw new Failure(`${id} was removed in the meantime.`)
    }
    audit({ event: code === undefined ? 'user_code.removed' : 'user_code.set', user: id, by: 'command' })
    return id
  })
  const made = given === undefined ? code : undefined
  if (options.json) return printJson({ id, code_set: code !== undefined, ...(made !== undefined && { code: made }) })
  if (code === undefined) return print(`${named(who, id)} no longer has a code.`)
  print(`${colour('bold', named(who, id))} has a code now.`)
  if (made === undefined) return
  print()
  print(listing([['code', made]], '  '))
  print()
  print('It is shown only once: give it to the user in a safe way. They can change it on /user-code.')
}

interface ListOptions extends UserOptions {
  removed?: boolean
}

interface ListedUser {
  user: User
  from: 'configuration' | 'command' | 'sign-in'
}

async function runList(options: ListOptions): Promise<void> {
  if (options.removed) return listRemoved(options)
  const users = await withDatabase(options, async ({ config, database }): Promise<ListedUser[]> => {
    const added = await createUserStore(database).list()
    return [
      ...configuredUsers(config).map((user) => ({ user, from: 'configuration' as const })),
      ...added.map((user) => ({ user, from: isExternalUserId(user.id) ? ('sign-in' as const) : ('command' as const) })),
    ]
  })
  if (options.json) printJson({ users: users.map(forScripts) })
  else if (users.length > 0)
    print(table(['USER', 'USERNAME', 'EMAIL', 'PHONE', 'NAME', 'LOCALE', 'FROM'], users.map(rowOf)))
  else print('There are no users yet. "npx doorbell user add --help" says how.')
}

async function listRemoved(options: UserOptions): Promise<void> {
  const removed = await withDatabase(options, ({ database }) => createUserGenerationStore(database).removed())
  // The stored time is later than the removal: until then, requests of nodes whose clock is ahead are refused.
  const listed = removed.map(({ id, removedAt }) => ({ id, removed_at: iso(removedAt - clockDifferenceMs) }))
  if (options.json) printJson({ removed: listed })
  else if (listed.length > 0)
    print(
      table(
        ['ID', 'REMOVED'],
        listed.map(({ id, removed_at }) => [id, removed_at]),
      ),
    )
  else print('No history of removed users is kept.')
}

/**
 * Returns a user for JSON output. The members are listed one by one, so that no password or hash can be included by
 * accident.
 */
function forScripts({ user, from }: ListedUser) {
  const { id, username, email, phone_number, name, locale, disabled, claims } = user
  return { id, username, email, phone_number, name, locale, disabled: disabled ?? false, claims, origin: from }
}

function rowOf({ user, from }: ListedUser): string[] {
  const columns = [user.id, user.username, user.email, user.phone_number, user.name, user.locale]
  return [...columns.map((cell) => cell ?? ''), user.disabled ? `${from} (disabled)` : from]
}

/**
 * Removes all passkeys of a user. This is for users who have lost all of them: users can remove their own passkeys only
 * after signing in with a passkey.
 */
async function runForgetPasskeys(who: string, options: UserOptions): Promise<void> {
  const { id, forgotten } = await withDatabase(options, async ({ config, database, audit }) => {
    const id = await idOf(who, Array.isArray(config.users) ? config.users : [], createUserStore(database))
    const forgotten = await createPasskeyStore(database).removeAllOf(id)
    if (forgotten > 0) audit({ event: 'passkey.removed', user: id, by: 'command' })
    return { id, forgotten }
  })
  if (options.json) return printJson({ user: id, forgotten })
  if (forgotten === 0) throw new Failure(`${named(who, id)} has no passkeys; "npx doorbell user list" lists the users.`)
  print(`Removed ${forgotten} ${forgotten === 1 ? 'passkey' : 'passkeys'} of ${named(who, id)}.`)
}
