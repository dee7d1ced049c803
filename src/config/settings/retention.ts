/** Settings of how long finished records are kept. */
import { section, whole } from './kinds.ts'
import { setting } from './setting.ts'

/** Upper limit for these settings, in days: 100 years. */
const century = 36_525

export const retentionSettings = {
  retention: setting(
    section({
      requests: setting(
        whole('days', 1, century).default(30),
        'Authentication requests after they were denied, redeemed or had expired. Kept longer while their tokens are ' +
          'valid.',
      ),
      notifications: setting(
        whole('days', 1, century).default(30),
        'Notifications after they were delivered or parked.',
      ),
      history: setting(
        whole('days', 1, century).exactOptional(),
        'The consent history, which users can view. At least as long as requests.',
        { example: '3650', isSketch: true },
      ),
      signedRequests: setting(
        whole('days', 1, century).exactOptional(),
        'Signed authentication requests as received, as evidence.',
        { example: '3650', isSketch: true },
      ),
    }).prefault({}),
    'How long finished records are kept; a record without a setting is kept forever ([operating.md](operating.md)).',
  ),
}
