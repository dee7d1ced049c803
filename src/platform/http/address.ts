/**
 * Determines which IP addresses are on the public internet. Unless private networks are allowed, every address that the
 * server calls for a client must be public. The ranges are listed here because ipaddr.js excludes fewer addresses
 * (docs/decisions/0022-libraries-weighed.md).
 */
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

/** IPv4 ranges that are not public: the IANA special-purpose registry, and one address that is special in Azure. */
const special4 = subnets('ipv4', [
  '0.0.0.0/8', // this network, unspecified
  '10.0.0.0/8', // private
  '100.64.0.0/10', // carrier-grade NAT
  '127.0.0.0/8', // loopback
  '168.63.129.16/32', // in Azure, the control service of the host, although the address looks public
  '169.254.0.0/16', // link-local, cloud metadata
  '172.16.0.0/12', // private
  '192.0.0.0/24', // protocol assignments
  '192.0.2.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16', // private
  '198.18.0.0/15', // benchmarking
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
])

/**
 * An IPv6 address is public only if it is global unicast. This excludes loopback, unique-local, link-local and
 * multicast addresses, and the forms that contain an IPv4 address (mapped, compatible, NAT64).
 */
const global6 = subnets('ipv6', ['2000::/3'])

/** Global unicast addresses that are not public. */
const special6 = subnets('ipv6', [
  '2001::/23', // protocol assignments: Teredo, benchmarking, ORCHID
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4, contains an IPv4 address
  '3fff::/20', // documentation
])

/**
 * Returns whether an address is public.
 *
 * @param ip an IP address in the usual notation. Any other text (a name, an unusual notation, an address with a zone)
 *   counts as not public
 */
export function isPublicAddress(ip: string): boolean {
  if (ip.includes('%')) return false
  const version = isIP(ip)
  if (version === 4) return !special4.check(ip, 'ipv4')
  if (version === 6) return global6.check(ip, 'ipv6') && !special6.check(ip, 'ipv6')
  return false
}

/** Parses addresses and CIDR ranges, as they are written in settings. */
export function rangesOf(ranges: readonly string[]): BlockList {
  const list = new BlockList()
  for (const range of ranges) {
    const [address = '', bits] = range.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    if (bits === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(bits), family)
  }
  return list
}

/**
 * Returns whether an address is in one of the ranges. The zone of an IPv6 address is ignored, and an IPv4-mapped
 * address counts as IPv4.
 */
export function isWithin(address: string | undefined, ranges: BlockList): boolean {
  if (address === undefined) return false
  const plain = plainAddress(address).split('%')[0]!
  return ranges.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4')
}

/** Converts an IPv4-mapped address to IPv4, because a server that listens on `::` gets IPv4 addresses in this form. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '')
}

/** Returns the network that counts as one caller: the IPv4 address itself, or the /64 of an IPv6 address. */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address
  const plain = plainAddress(address)
  return isIPv6(plain) ? groupsOf(plain).slice(0, 4).join(':') : plain
}

/**
 * Returns the networks that contain an address: the /24 of an IPv4 address, or the /64 and then the /48 of an IPv6
 * address. Used for limits for each network. For a text that is not an address, the network is `unknown`.
 *
 * @example
 * networksOf('192.0.2.7') // ['192.0.2.0/24']
 * networksOf('2001:db8:1:2::7') // ['2001:db8:1:2::/64', '2001:db8:1::/48']
 */
export function networksOf(address: string | undefined): [string] | [string, string] {
  const plain = plainAddress(address ?? '').split('%')[0]!
  if (isIPv6(plain)) {
    const groups = groupsOf(plain)
    return [`${groups.slice(0, 4).join(':')}::/64`, `${groups.slice(0, 3).join(':')}::/48`]
  }
  return [isIPv4(plain) ? `${plain.split('.').slice(0, 3).join('.')}.0/24` : 'unknown']
}

/** Returns the eight groups of an IPv6 address, each without leading zeros and in lower case. */
function groupsOf(address: string): string[] {
  // The zone is removed, because ipaddr.js rejects some zones that Node accepts.
  const { parts } = ipaddr.IPv6.parse(address.split('%')[0]!)
  return parts.map((group) => group.toString(16))
}

function subnets(version: 'ipv4' | 'ipv6', ranges: string[]): BlockList {
  const list = new BlockList()
  for (const range of ranges) {
    const [network, bits] = range.split('/')
    list.addSubnet(network!, Number(bits), version)
  }
  return list
}
