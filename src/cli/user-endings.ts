/** `doorbell user`: commands that sign out, lock, remove or erase users, set their passwords, or export their data. */
import type { Command } from 'commander'
import { createEndUser, type EndingOptions, type EndUser, type UserEnding } from '../endings/end-user.ts'
import { exportUser } from '../endings/export-user.ts'
import { newSecret } from '../platform/crypto.ts'
import { passwordOf } from '../user/password/password-hashing.ts'
import { createUserStore, type UserStore } from '../user/user-store.ts'
import { type CommandContext, withDatabase } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import { type SettingOptions, withSettings } from './context/settings.ts'
import { colour, examples, inShell, listing, print, printJson } from './context/terminal.ts'
import { noticesOfChange } from './notices-of-change.ts'
import {
  configuredUsers,
  hashingWith,
  idOf,
  inConfiguration,
  mayBeOfApplication,
  named,
  noData,
  notAdded,
  readSecret,
  refuseWeakPassword,
  wasErased,
} from './which-user.ts'

interface UserOptions extends SettingOptions {
  json?: boolean
}

interface PasswordOptions extends UserOptions {
  passwordStdin?: boolean
}

interface EraseOptions extends UserOptions {
  removedFromApplication?: boolean
}

type Example = [typed: string, does: string]

/** Adds the commands of this file. @param user the command `doorbell user` */
export function addUserEndings(user: Command): void {
  function add<Options extends UserOptions>(
    name: string,
    description: string,
    run: (who: string, options: Options) => Promise<void>,
    shown: Example[],
  ): Command {
    const command = user
      .command(`${name} <user>`)
      .description(description)
      .option('--json', 'answer in JSON')
      .action((who: string, _options, command: Command) => run(who, command.optsWithGlobals()))
    examples(withSettings(command), shown)
    return command
  }

  add<PasswordOptions>(
    'password',
    'Set a new password for a user, and end all sessions and tokens, as sign-out does. A password is generated and shown once, unless given.',
    runPassword,
    [
      ['npx doorbell user password dora', 'a new password for dora, who has forgotten hers'],
      ['npx doorbell user password dora --password-stdin < password.txt', 'the same with a given password'],
    ],
  ).option('--password-stdin', 'read the password from standard input')
  add(
    'sign-out',
    'End all sessions and tokens of a user, everywhere and at once, the tokens of approvals too. (A user who signs out everywhere in the app keeps approvals.) Waiting requests stay.',
    runSignOut,
    [['npx doorbell user sign-out dora', 'another person may have used her session to approve requests']],
  )
  add(
    'lock',
    'Disable a user who was added by command, at once: no requests, decisions or tokens for them any more. Sessions, tokens and open requests end.',
    runLock,
    [['npx doorbell user lock dora', 'her phone is lost']],
  )
  add('unlock', 'Enable a locked user again. Ended sessions, tokens and requests stay ended.', runUnlock, [
    ['npx doorbell user unlock dora', 'her phone is found: she signs in again'],
  ])
  add('remove', 'Remove a user who was added by command, with their data. Decisions stay in the history.', runRemove, [
    ['npx doorbell user remove dora', 'no client can ask her any more'],
  ])
  add('export', 'Print all stored data about a user as JSON, without secrets.', runExport, [
    ['npx doorbell user export dora > dora.json', 'dora wants to know what is stored about her'],
  ])
  add<EraseOptions>(
    'erase',
    'Remove a user with all stored data about them, including the history of decisions. It may be repeated.',
    runErase,
    [['npx doorbell user erase dora', 'dora wants to be forgotten']],
  ).option('--removed-from-application', 'confirm that your application does not have the user any more')
}

interface Meant {
  id: string
  context: CommandContext
  users: UserStore
  endUser: EndUser
}

function about<Result>(who: string, options: SettingOptions, work: (meant: Meant) => Promise<Result>): Promise<Result> {
  return withDatabase(options, async (context) => {
    const { config, database } = context
    const users = createUserStore(database)
    const id = await idOf(who, Array.isArray(config.users) ? config.users : [], users)
    return work({ id, context, users, endUser: createEndUser(context) })
  })
}

/**
 * Signs out, locks or removes a user who was added by command, as `ending` says. Resolves to the id of the user. Throws
 * if the user was not added by command.
 *
 * @param inConfiguration what to do for a user of the configuration, for the error
 */
function end(
  who: string,
  ending: UserEnding,
  options: SettingOptions,
  inConfiguration: string,
  more: (meant: Meant) => Promise<Partial<EndingOptions>> = async () => ({}),
): Promise<string> {
  return about(who, options, async (meant) => {
    const { id, context, users, endUser } = meant
    configuredUsers(context.config)
    if (await endUser(id, ending, { ...(await more(meant)), mustBe: 'added', by: 'command' })) return id
    throw await notAdded(who, id, context, users, inConfiguration)
  })
}

async function runPassword(who: string, options: PasswordOptions): Promise<void> {
  const given = options.passwordStdin ? await readSecret('password') : undefined
  const password = given ?? newSecret(12)
  const id = await end(who, 'signed_out', options, inConfiguration.password, async ({ id, users, context }) => {
    const user = await users.find(id)
    if (user === undefined) throw await notAdded(who, id, context, users, inConfiguration.password)
    refuseWeakPassword(given, user, context.config)
    const hash = await hashingWith(context.vault).hash(password, passwordOf(id))
    return { ...(await passwordSetting(id, hash, users, context)), alsoEvent: 'user.password_set' }
  })
  const made = given === undefined ? password : undefined
  if (options.json) return printJson({ id, ...(made !== undefined && { password: made }) })
  print(`${colour('bold', who)} has a new password. All sessions and tokens of the user have ended.`)
  if (made === undefined) return
  print()
  print(listing([['password', made]], '  '))
  print()
  print('It is shown only once: give it to the user in a safe way.')
}

/**
 * Resolves to the statement that sets the password, and to the messages that notify the user of the change. The caller
 * writes the statement and the messages in one transaction.
 */
async function passwordSetting(id: string, passwordHash: string, users: UserStore, context: CommandContext) {
  const notices = noticesOfChange({ type: 'password.set', userId: id }, context)
  return { also: [users.settingPassword(id, passwordHash)], notices }
}

async function runSignOut(who: string, options: UserOptions): Promise<void> {
  const id = await about(who, options, async ({ id, context, users, endUser }) => {
    const configured = context.config.users
    if (Array.isArray(configured) && !configured.some((user) => user.id === id)) {
      // An application that embeds the server may have the user: then there is no row in `users`.
      const isKnown = (await users.find(id)) !== undefined || (await exportUser(id, undefined, context)) !== undefined
      if (!isKnown) throw await notAdded(who, id, context, users)
    }
    await endUser(id, 'signed_out', { by: 'command' })
    return id
  })
  if (options.json) printJson({ signed_out: id })
  else print(`Signed ${who} out everywhere: all sessions and tokens have ended, those of approvals too.`)
}

async function runLock(who: string, options: UserOptions): Promise<void> {
  const id = await end(who, 'locked', options, inConfiguration.lock)
  if (options.json) printJson({ locked: id })
  else print(`Locked ${named(who, id)}. All sessions and tokens have ended, and open requests are denied.`)
}

async function runUnlock(who: string, options: UserOptions): Promise<void> {
  const id = await about(who, options, async ({ id, context, users }) => {
    if (!(await users.unlock(id, context.clock.now()))) {
      throw await notAdded(who, id, context, users, inConfiguration.unlock)
    }
    context.audit({ event: 'user.unlocked', user: id, by: 'command' })
    return id
  })
  if (options.json) printJson({ unlocked: id })
  else print(`${who} may sign in and decide again.`)
}

async function runRemove(who: string, options: UserOptions): Promise<void> {
  const id = await end(who, 'removed', options, inConfiguration.remove)
  if (options.json) return printJson({ removed: id })
  print(
    `Removed ${named(who, id)}. All sessions, tokens and passkeys have ended, and open requests are denied.\n` +
      'No client can ask this user any more. The history of decisions is kept under the id. To delete it too:\n' +
      `  npx doorbell user erase ${inShell(id)}`,
  )
}

/**
 * Prints all data about a user. The output is always JSON, even without `--json`: the data is for the user, and for
 * programs.
 */
async function runExport(who: string, options: UserOptions): Promise<void> {
  const kept = await about(who, options, async ({ id, context, users }) => {
    const configured = Array.isArray(context.config.users)
      ? context.config.users.find((user) => user.id === id)
      : undefined
    const kept = await exportUser(id, configured, context)
    if (kept === undefined) throw await noData(who, id, context, users)
    return kept
  })
  printJson(kept)
}

/**
 * Erases a user. Succeeds if the user with this id was erased before. Throws if there is no data under the name and no
 * user with this id was erased: a removed user has no name any more, and the history may still be there.
 */
async function runErase(who: string, options: EraseOptions): Promise<void> {
  const { id, wasThere } = await about(who, options, async ({ id, context, endUser, users: added }) => {
    const { users } = context.config
    if (Array.isArray(users) ? users.some((user) => user.id === id) : await users.find(id)) {
      const where = Array.isArray(users) ? 'the configuration' : 'your application'
      throw new Failure(
        `${who} comes from ${where}. Remove the user there first${Array.isArray(users) ? ', and restart the server' : ''}.`,
      )
    }
    if (Array.isArray(users) && !options.removedFromApplication && (await mayBeOfApplication(id, context.database))) {
      throw new Failure(
        `${who} was not added by command, and is not in the configuration: your application may have this user.\n` +
          'First remove the user from your application, or from the configuration and restart the server. For a user of your\n' +
          'application, then repeat the command with --removed-from-application. Until the id is deleted after ten minutes,\n' +
          'the user cannot sign in and gets no requests, even if your application still has the user.',
      )
    }
    const wasThere = (await exportUser(id, undefined, context)) !== undefined
    if (wasThere) await endUser(id, 'erased', { by: 'command' })
    else if (!(await wasErased(id, context))) throw await noData(who, id, context, added)
    return { id, wasThere }
  })
  if (options.json) return printJson({ erased: id, ...(!wasThere && { nothing_left: true }) })
  if (!wasThere) print(`${who} was erased before: nothing is left to erase.`)
  else
    print(
      `Erased ${who}. A hash of the id is kept, so that no other user gets the same id; the id itself is deleted after ten minutes.`,
    )
}
