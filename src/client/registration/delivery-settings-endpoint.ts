/**
 * The endpoint `clientconfig`, at which a client changes its delivery mode and notification endpoint. Each parameter
 * has two names: the name in the standard, and an older name such as `ciba_notify_type`.
 */
import type { FastifyInstance } from 'fastify'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { type Form, readJsonFields } from '../../platform/http/form.ts'
import { slotOf } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { ReadCertificate } from '../certificate/client-certificate.ts'
import type { AuthenticateClient, Client } from '../client.ts'
import type { ClientStore } from '../client-store.ts'
import type { DeliveryMode } from '../metadata/client-metadata.ts'
import { unavailableSecret } from '../metadata/client-secret-length.ts'
import { readClientMetadata, type ValidationContext } from '../metadata/read-client-metadata.ts'
import { sectorStays, staysInSector } from '../metadata/sector.ts'

export interface ClientSettingsNeeds {
  authenticateClient: AuthenticateClient
  certificateOf: ReadCertificate
  clients: ClientStore
  /** Properties of the deployment, such as its security profile, that are needed to validate client metadata. */
  validationContext: ValidationContext
  clock: Clock
  audit: Audit
}

interface Settings {
  mode: DeliveryMode
  endpoint: string | undefined
}

export function clientSettingsEndpoint(app: FastifyInstance, path: string, needs: ClientSettingsNeeds): void {
  onlyMethods(app, path, ['POST'])
  app.post(path, async (request, reply) => {
    const form = readJsonFields(request.headers['content-type'], rawBody(request))
    const { authorization } = request.headers
    const certificate = needs.certificateOf(request.raw)
    const address = request.ip
    const slot = slotOf(request.raw)
    const client = await needs.authenticateClient({ form, authorization, certificate, address, slot })
    if (client.deliveryMode === undefined) {
      throw new OAuthError('unauthorized_client', 'this client is not registered for backchannel authentication')
    }
    const settings = readSettings(form, client, needs.validationContext)
    const changed = await needs.clients.changeDelivery(client, settings.mode, settings.endpoint, needs.clock.now())
    if (!changed) throw new OAuthError('unauthorized_client', 'this client is no longer registered')
    needs.audit({ event: 'client.settings_changed', client: client.id, address, outcome: settings.mode })
    return reply.header('cache-control', 'no-store').send(underBothNames(settings))
  })
}

/**
 * Returns the new settings, validated as at registration: the mode must be known, and there must be an endpoint if and
 * only if the mode is ping or push (CIBA Core §4).
 */
function readSettings(form: Form, client: Client, context: ValidationContext): Settings {
  const asked = form.get('backchannel_token_delivery_mode') ?? form.get('ciba_notify_type') ?? client.deliveryMode
  const mode = asked?.toLowerCase()
  const endpoint = form.get('backchannel_client_notification_endpoint') ?? form.get('ciba_notify_endpoint')
  // If the endpoint is left out, a change between ping and push keeps the current endpoint.
  const kept = mode === 'poll' ? undefined : client.notificationEndpoint

  const read = readClientMetadata(
    {
      ...client.metadata,
      // The secret is stored hashed or encrypted, so a placeholder is used. The secret's length was checked at
      // registration.
      ...(client.secretHash !== undefined && { client_secret: unavailableSecret }),
      backchannel_token_delivery_mode: mode,
      backchannel_client_notification_endpoint: endpoint ?? kept,
    },
    context,
  )
  if ('problems' in read) throw new OAuthError('invalid_client_metadata', read.problems.join('; '))
  if (!staysInSector(client.metadata, read.client)) throw new OAuthError('invalid_client_metadata', sectorStays)
  return {
    mode: read.client.backchannel_token_delivery_mode!,
    endpoint: read.client.backchannel_client_notification_endpoint,
  }
}

function underBothNames({ mode, endpoint }: Settings) {
  return {
    backchannel_token_delivery_mode: mode,
    ciba_notify_type: mode.toUpperCase(),
    ...(endpoint !== undefined && {
      backchannel_client_notification_endpoint: endpoint,
      ciba_notify_endpoint: endpoint,
    }),
  }
}
