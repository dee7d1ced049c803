import assert from 'node:assert/strict'
import { SocketAddress } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { isPublicAddress, networkOf, networksOf } from './address.ts'

const publicOnes = [
  '1.1.1.1',
  '8.8.8.8',
  '9.255.255.255',
  '11.0.0.0',
  '93.184.216.34',
  '100.63.255.255',
  '100.128.0.0',
  '126.255.255.255',
  '128.0.0.1',
  '168.63.129.15',
  '169.253.255.255',
  '172.15.255.255',
  '172.32.0.0',
  '192.0.1.0',
  '192.167.255.255',
  '192.169.0.0',
  '198.17.255.255',
  '198.20.0.0',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2a00:1450:4001::200e',
  '2001:4860:4860::8888',
  '2001:0200::1',
]

const others = [
  '0.0.0.0',
  '0.255.255.255',
  '10.0.0.1',
  '10.255.255.255',
  '100.64.0.1',
  '100.127.255.255',
  '127.0.0.1',
  '127.255.255.254',
  '168.63.129.16',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.8',
  '192.0.2.1',
  '192.88.99.1',
  '192.168.1.1',
  '198.18.0.1',
  '198.19.255.255',
  '198.51.100.7',
  '203.0.113.7',
  '224.0.0.1',
  '239.255.255.255',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '0:0:0:0:0:0:0:1',
  '::127.0.0.1',
  '::8.8.8.8',
  '::7f00:1',
  '::a9fe:a9fe',
  '::ffff:127.0.0.1',
  '::ffff:7f00:1',
  '::FFFF:10.0.0.1',
  '::ffff:8.8.8.8',
  '64:ff9b::7f00:1',
  '64:ff9b::8.8.8.8',
  '64:ff9b:1::10.0.0.1',
  '100::1',
  '2001::1',
  '2001:2::1',
  '2001:10::1',
  '2001:db8::1',
  '2002:7f00:1::',
  '2002:808:808::1',
  '3fff::1',
  '4000::1',
  '5f00::1',
  '8000::1',
  'fc00::1',
  'fd12:3456:789a::1',
  'fe80::1',
  'fe80::1%eth0',
  '2606:4700::1%eth0',
  'febf::1',
  'fec0::1',
  'ff02::1',
  'ff0e::1',
]

const notAddresses = [
  '',
  'localhost',
  '127.1',
  '0x7f.0.0.1',
  '2130706433',
  '0177.0.0.1',
  '[::1]',
  ' 8.8.8.8',
  '8.8.8.8.',
  '8.8.8',
]

/** Unusual notations, which the URL parser normalises before the check. */
const notations = [
  '127.1',
  '127.0.1',
  '2130706433',
  '0x7f000001',
  '0x7f.0.0.1',
  '0177.0.0.1',
  '017700000001',
  '0x7F.1',
  '%31%32%37.0.0.1',
  '127.0.0.1.',
  '127。0。0。1',
  '127.0.0.1',
  '3232235777',
  '0xa9fea9fe',
  '[::1]',
  '[::ffff:127.0.0.1]',
  '[0:0:0:0:0:ffff:7f00:0001]',
  '[64:ff9b::169.254.169.254]',
  '[FD00::1]',
]

test('addresses of the public internet are public', () => {
  for (const ip of publicOnes) assert.equal(isPublicAddress(ip), true, ip)
})

test('special addresses are not public', () => {
  for (const ip of others) assert.equal(isPublicAddress(ip), false, ip)
})

test('what is not an address in the usual notation is not public', () => {
  for (const ip of notAddresses) assert.equal(isPublicAddress(ip), false, ip)
})

test('unusual notations are read as the special address they mean', () => {
  for (const host of notations) {
    const { hostname } = new URL(`https://${host}/`)
    assert.equal(isPublicAddress(hostname.replace(/^\[|\]$/g, '')), false, host)
  }
})

test('an address belongs to the same networks in any notation', () => {
  assert.deepEqual(networksOf('192.0.2.7'), ['192.0.2.0/24'])
  assert.deepEqual(networksOf('::ffff:192.0.2.7'), ['192.0.2.0/24'])
  for (const same of ['2001:db8:1:2::7', '2001:0DB8:0001:0002:ffff::', '2001:db8:1:2:3:4:192.0.2.7']) {
    assert.deepEqual(networksOf(same), ['2001:db8:1:2::/64', '2001:db8:1::/48'], same)
  }
  assert.deepEqual(networksOf('fe80::1%eth0'), ['fe80:0:0:0::/64', 'fe80:0:0::/48'])
  assert.deepEqual(networksOf('::1'), ['0:0:0:0::/64', '0:0:0::/48'])
  for (const unreadable of [undefined, '', 'localhost', '192.0.2', '192.0.2.7:443']) {
    assert.deepEqual(networksOf(unreadable), ['unknown'], unreadable)
  }
  assert.equal(networkOf('2001:0db8:1:2::7'), networkOf('2001:db8:1:2:ffff::'))
})

test('every spelling that Node accepts as an IPv6 address is in the networks of that address', () => {
  fc.assert(
    fc.property(fc.ipV6(), (spelling) => {
      const usual = new SocketAddress({ address: spelling, family: 'ipv6' }).address
      // A mapped address may be written without dots, but the address of a caller is never written like this.
      fc.pre(!usual.startsWith('::ffff:'))
      assert.deepEqual(networksOf(spelling), networksOf(usual))
    }),
    { numRuns: 2000 },
  )
})
