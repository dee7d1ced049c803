/** Adds routes that exist in development only: the mailbox, decisions without a device, and the demo. */
import type { FastifyInstance } from 'fastify'
import type { SendToServer } from '../consent-app/device-api.ts'
import { demoEndpoint } from '../demo/demo-endpoint.ts'
import { createTill } from '../demo/till.ts'
import { developmentEndpoint } from '../development/development-endpoint.ts'
import { endpoints, paths } from '../routes.ts'
import type { Ciba, CibaNeeds } from './ciba.ts'

export function addDevelopmentRoutes(app: FastifyInstance, needs: CibaNeeds, ciba: Ciba, send: SendToServer): void {
  const { platform, stored, channels } = needs
  const { config, clock, log } = platform
  const { mailbox, demoWire: wire } = channels
  const till =
    wire &&
    createTill({
      issuer: config.issuer,
      paths: { backchannel: endpoints.backchannel, token: paths.token, jwks: paths.jwks },
      secretOf: (id) => config.clients.find(({ client_id }) => client_id === id)?.client_secret,
      send,
      wire,
      clock,
      log,
    })
  const { requests } = stored
  if (mailbox)
    developmentEndpoint(app, {
      requests,
      decide: ciba.decide,
      mailbox,
      onCall: till?.hear,
      hasDemo: till !== undefined,
      clock,
    })
  if (till) demoEndpoint(app, { paths: endpoints, till, wire, mostStreams: config.limits.streams.inAll, clock })
}
