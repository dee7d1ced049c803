#!/bin/sh
# Measures requests and whole flows on Debian's own Postgres, which has JIT: with empty tables, and with a million
# finished requests of one client. Fails unless the 95 % interval of the ratio of the two rates overlaps 1 ± 0.1.
#
#     checks/debian-postgres/run.sh                     about four minutes
#     checks/debian-postgres/run.sh --commit ca7be15    of another commit's server
#
# --rounds, --seconds (for each round) and --rows replace the default numbers. The check needs Debian's package
# "postgresql", and installs it if it has the permission. It creates a cluster in a temporary folder, and removes it
# afterwards.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
newest() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -n | tail -1; }

if [ -z "$(newest)" ]; then
  [ "$(id -u)" = 0 ] || { echo 'Type first: sudo apt-get install postgresql' >&2; exit 2; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
binaries=$(newest)

# Postgres refuses to run as root. So root runs it as the user "postgres", which the package has created.
if [ "$(id -u)" = 0 ]; then run() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; }
else run() { "$@"; }; fi

folder=$(mktemp -d)
[ "$(id -u)" != 0 ] || chown postgres "$folder"
cd "$folder"
stop() {
  [ ! -f "$folder/data/postmaster.pid" ] || run "$binaries/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null || true
  cd / && rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM

port=$(node -e 'const s = require("node:net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
run "$binaries/initdb" -D "$folder/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C >/dev/null
run "$binaries/pg_ctl" -D "$folder/data" -l "$folder/log" -w start \
  -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=100" >/dev/null

DOORBELL_BENCH_POSTGRES="postgres://postgres@127.0.0.1:$port/postgres" node "$here/full-beside-empty.ts" "$@"
