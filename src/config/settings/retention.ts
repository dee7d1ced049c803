/** Settings of how long finished records are kept. */
import { section, whole } from './kinds.ts'
import { setting } from './setting.ts'

/** Upper limit for the settings in `retention`, in days: 100 years. */
const century = 36_525

export const retentionSettings = {
  retention: setting(
    section({
      requests: setting(
        whole('days', 1, century).default(30),
        'How long authentication requests are kept after they were denied or redeemed, or have expired. A request is ' +
          'kept longer while a token that was issued for it exists.',
      ),
      notifications: setting(
        whole('days', 1, century).default(30),
        'How long notifications are kept after they were delivered or parked.',
      ),
      history: setting(
        whole('days', 1, century).exactOptional(),
        'How long decisions are kept in the history, which users can view. Not shorter than `retention.requests`.',
        { example: '3650', isSketch: true },
      ),
      signedRequests: setting(
        whole('days', 1, century).exactOptional(),
        'How long signed authentication requests are kept, unchanged, as evidence.',
        { example: '3650', isSketch: true },
      ),
    }).prefault({}),
    'How long finished records are kept. Without a value, `history` and `signedRequests` are kept forever ' +
      '([operating.md](operating.md)).',
  ),
}
