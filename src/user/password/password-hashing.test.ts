import assert from 'node:assert/strict'
import { randomBytes, scryptSync } from 'node:crypto'
import { describe, test } from 'node:test'
import { createVault } from '../../platform/crypto.ts'
import { readPasswordHash } from './password-hash.ts'
import { createPasswordHashing, passwordOf, userCodeOf } from './password-hashing.ts'
import { type ScryptCost, type ScryptJob, scryptHere, scryptOptions, workOf } from './scrypt.ts'

const vault = createVault(Buffer.alloc(32, 1).toString('base64url'))
const otherVault = createVault(Buffer.alloc(32, 2).toString('base64url'))
const cheap: ScryptCost = { N: 16, r: 8, p: 1 }
const hashing = createPasswordHashing({ vault, scrypt: scryptHere, cost: cheap })
const of = passwordOf('u1')

/** Returns a hash in the former format, without a key. */
function formerHash(password: string): string {
  const salt = randomBytes(16)
  const hash = scryptSync(password, salt, 32, scryptOptions({ N: 2 ** 15, r: 8, p: 1 }))
  return `scrypt.${salt.toString('base64url')}.${hash.toString('base64url')}`
}

describe('the hash of a password', () => {
  test('matches that password and no other', async () => {
    const hash = await hashing.hash('correct horse', of)
    assert.notEqual(await hashing.hash('correct horse', of), hash)
    assert.deepEqual(await hashing.verify('correct horse', hash, of), { matches: true })
    for (const wrong of ['correct hors', 'Correct horse', '']) {
      assert.deepEqual(await hashing.verify(wrong, hash, of), { matches: false })
    }
  })

  test('matches in any Unicode composition', async () => {
    const hash = await hashing.hash('caf\u00e9', of)
    assert.equal((await hashing.verify('cafe\u0301', hash, of)).matches, true)
  })

  test('matches nothing for another user, or as a user code', async () => {
    const hash = await hashing.hash('4711', of)
    for (const place of [passwordOf('u2'), passwordOf(''), userCodeOf('u1')]) {
      assert.equal((await hashing.verify('4711', hash, place)).matches, false)
    }
  })

  test('contains its cost and its key: N is 2^17 by default', async () => {
    const jobs: ScryptJob[] = []
    const real = createPasswordHashing({
      vault,
      scrypt: (job) => {
        jobs.push(job)
        return scryptHere(job)
      },
    })
    const hash = await real.hash('4711', of)
    assert.match(hash, /^\$scrypt\$ln=17,r=8,p=1,keyid=[A-Za-z0-9+/]{8}\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
    assert.deepEqual(jobs[0]!.cost, { N: 131072, r: 8, p: 1 })
    assert.equal((await real.verify('4711', hash, of)).matches, true)
  })
})

describe('text that is not a hash', () => {
  for (const none of [
    undefined,
    '',
    'scrypt',
    'scrypt..',
    'plain',
    '$scrypt$ln=4,r=8,p=1$c2FsdA$',
    // This cost needs 128 GiB of memory.
    `$scrypt$ln=27,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$${'A'.repeat(43)}`,
    `$scrypt$ln=4,r=8,p=0$c2FsdHNhbHRzYWx0c2FsdA$${'A'.repeat(43)}`,
  ]) {
    test(`matches nothing: ${none}`, async () => {
      for (const password of ['', 'plain']) {
        assert.deepEqual(await hashing.verify(password, none, of), { matches: false })
      }
    })
  }
})

describe('a stolen database', () => {
  test('is useless without the secret: of ten thousand codes, none is found', async () => {
    const hash = await hashing.hash('4711', userCodeOf('u1'))
    const { salt, hash: expected } = readPasswordHash(hash)!
    for (let number = 0; number < 10_000; number++) {
      const guess = scryptSync(String(number).padStart(4, '0'), salt, 32, scryptOptions(cheap))
      assert.ok(!guess.equals(expected))
    }
  })

  test('contains hashes that match nothing under another secret, not even the right code', async () => {
    const hash = await hashing.hash('4711', userCodeOf('u1'))
    const other = createPasswordHashing({ vault: otherVault, scrypt: scryptHere, cost: cheap })
    assert.deepEqual(await other.verify('4711', hash, userCodeOf('u1')), { matches: false })
    const forged = hash.replace(/keyid=[^$]+/, /keyid=[^$]+/.exec(await other.hash('x', of))![0])
    assert.equal((await other.verify('4711', forged, userCodeOf('u1'))).matches, false)
  })
})

describe('an older hash', () => {
  test('still matches and is replaced by a stronger one; the same for one of a lower cost', async () => {
    const { matches, stronger } = await hashing.verify('correct horse', formerHash('correct horse'), of)
    assert.deepEqual([matches, await hashing.verify('correct horse', stronger, of)], [true, { matches: true }])
    assert.deepEqual(await hashing.verify('wrong', formerHash('correct horse'), of), { matches: false })
    const dearer = createPasswordHashing({ vault, scrypt: scryptHere, cost: { ...cheap, N: 32 } })
    const raised = await dearer.verify('a', await hashing.hash('a', of), of)
    assert.match(String(raised.stronger), /ln=5,/)
    assert.deepEqual(await hashing.verify('a', raised.stronger, of), { matches: true }, 'and is not lowered again')
  })
})

describe('the work of a verification', () => {
  test('is the same for every user and for none, right or wrong, whatever hash is stored', async () => {
    let work = 0
    const counted = createPasswordHashing({
      vault,
      scrypt: async ({ cost }) => {
        work += workOf(cost)
        return new Uint8Array(32)
      },
    })
    const today = await counted.hash('a', of)
    const kept = [undefined, '', 'plain', today, formerHash('a'), `$scrypt$ln=16,r=8,p=1$c2FsdA$${'B'.repeat(43)}`]
    for (const hash of kept) {
      for (const password of ['a', 'b', '']) {
        work = 0
        await counted.verify(password, hash, of)
        assert.equal(work, 2 ** 17 * 8, `${hash} and ${password}`)
      }
    }
  })
})
