import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type RequestStatus, statusAt } from '../authentication-request/authentication-request.ts'
import { answerPoll, type PollAnswer } from './poll-answer.ts'

const deadline = 600_000

describe('the status of a request, and what a poll hears (§11), before and at the deadline', () => {
  const table: [
    kept: RequestStatus,
    before: RequestStatus,
    hears: PollAnswer,
    at: RequestStatus,
    hearsThen: PollAnswer,
  ][] = [
    ['pending', 'pending', 'authorization_pending', 'expired', 'expired_token'],
    ['approved', 'approved', 'issue tokens', 'expired', 'expired_token'],
    ['denied', 'denied', 'access_denied', 'denied', 'access_denied'],
    ['expired', 'expired', 'expired_token', 'expired', 'expired_token'],
    ['redeemed', 'redeemed', 'invalid_grant', 'redeemed', 'invalid_grant'],
  ]
  for (const [status, before, hears, at, hearsThen] of table) {
    test(`${status} (M3, M42)`, () => {
      const request = { status, expiresAt: deadline }
      assert.equal(statusAt(request, deadline - 1), before)
      assert.equal(answerPoll(request, deadline - 1, false), hears)
      for (const now of [deadline, deadline + 1]) {
        assert.equal(statusAt(request, now), at)
        assert.equal(answerPoll(request, now, false), hearsThen)
      }
    })

    test(`${status}, polled too early: only a pending request is told to slow down (M5, TK-15)`, () => {
      const request = { status, expiresAt: deadline }
      assert.equal(answerPoll(request, 0, true), status === 'pending' ? 'slow_down' : hears)
      assert.equal(answerPoll(request, deadline, true), hearsThen)
    })
  }
})
