import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type RequestStatus, statusAt } from '../authentication-request/authentication-request.ts'
import { answerPoll, type PollAnswer } from './poll-answer.ts'

const deadline = 600_000

describe('the status of a request and the answer to a poll, before and at the deadline (CIBA §11)', () => {
  const table: [
    kept: RequestStatus,
    before: RequestStatus,
    answer: PollAnswer,
    at: RequestStatus,
    answerThen: PollAnswer,
  ][] = [
    ['pending', 'pending', 'authorization_pending', 'expired', 'expired_token'],
    ['approved', 'approved', 'issue tokens', 'expired', 'expired_token'],
    ['denied', 'denied', 'access_denied', 'denied', 'access_denied'],
    ['expired', 'expired', 'expired_token', 'expired', 'expired_token'],
    ['redeemed', 'redeemed', 'invalid_grant', 'redeemed', 'invalid_grant'],
  ]
  for (const [status, before, answer, at, answerThen] of table) {
    test(`${status} (M3, M42)`, () => {
      const request = { status, expiresAt: deadline }
      assert.equal(statusAt(request, deadline - 1), before)
      assert.equal(answerPoll(request, deadline - 1, false), answer)
      for (const now of [deadline, deadline + 1]) {
        assert.equal(statusAt(request, now), at)
        assert.equal(answerPoll(request, now, false), answerThen)
      }
    })

    test(`${status}, polled too early: slow_down only if the request is pending (M5, TK-15)`, () => {
      const request = { status, expiresAt: deadline }
      assert.equal(answerPoll(request, 0, true), status === 'pending' ? 'slow_down' : answer)
      assert.equal(answerPoll(request, deadline, true), answerThen)
    })
  }
})
