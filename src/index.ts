/**
 * The public API: this file exports all public names.
 *
 * @example
 * import { createServer } from 'node:http'
 * import { createDoorbell, defineConfig } from 'doorbell-ciba'
 *
 * const doorbell = await createDoorbell(defineConfig({ development: true, database: 'sqlite::memory:' }))
 * createServer(doorbell.handler).listen(4000)
 */
import type { RequestStatus } from './ciba/authentication-request/authentication-request.ts'
import type { ConfigInput } from './config/config.ts'
import { resolveConfig } from './config/load.ts'
import { type Doorbell, type DoorbellOptions, createDoorbell as openDoorbell } from './doorbell.ts'
import { OAuthError, type OAuthErrorCode, type OAuthErrorOptions } from './platform/oauth-error.ts'

/**
 * Resolves to a complete CIBA provider on the configured database. The workers of the provider are running, except if
 * `options.workers` is false.
 *
 * @param config the settings, as for `defineConfig`; a setting that is left out has its default
 * @param options optional parts, for example your own clock and log
 * @throws {ConfigError} with all problems at once
 * @throws {SchemaError} if the database does not have the schema of this version
 * @example
 * const doorbell = await createDoorbell({ development: true, database: 'sqlite::memory:' })
 * const waiting = await doorbell.requests.list('u1', { only: 'open' })
 * await doorbell.close()
 */
export async function createDoorbell(config: ConfigInput, options: DoorbellOptions = {}): Promise<Doorbell> {
  return openDoorbell(await resolveConfig(config), options)
}

/** @deprecated Use `RequestStatus`. */
export type Status = RequestStatus
/** @deprecated Use `DoorbellOptions`. */
export type Parts = DoorbellOptions
/** @deprecated Use `OAuthError`, which is the same class. */
export const Refusal = OAuthError
/** @deprecated Use `OAuthError`. */
export type Refusal = OAuthError
/** @deprecated Use `OAuthErrorCode`. */
export type RefusalCode = OAuthErrorCode
/** @deprecated Use `OAuthErrorOptions`. */
export type RefusalVoices = OAuthErrorOptions

export type { RequestView } from './authentication-device/api/in-process-api.ts'
export type { AuthorizationDetail } from './authorization-details/detail-types.ts'
export type { DecisionResult } from './ciba/decision/decide.ts'
export type { ClientMetadata } from './client/metadata/client-metadata.ts'
export { type Config, type ConfigInput, defineConfig } from './config/config.ts'
export { type LoadOptions, loadConfig } from './config/load.ts'
export { ProfileError, SchemaError } from './doorbell.ts'
export type { Clock } from './platform/clock.ts'
export { ConfigError } from './platform/validation.ts'
export type { Authentication } from './user/authentication.ts'
export type { AccountChange, ConfiguredUser, PendingRequest, User, UserHint, UserHooks } from './user/user.ts'
export {
  type Doorbell,
  type DoorbellOptions,
  OAuthError,
  type OAuthErrorCode,
  type OAuthErrorOptions,
  type RequestStatus,
}
