#!/bin/sh
# Servers behind Debian's PgBouncer: which modes and pool sizes work, and which messages the others cause.
#
#     checks/pgbouncer/run.sh                           about two minutes
#
# It needs Debian's package "pgbouncer", which it installs if it may. Everything it starts is gone afterwards.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

if ! command -v pgbouncer >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo 'Type first: sudo apt-get install pgbouncer' >&2; exit 2; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null
fi

node "$here/modes-and-sizes.ts"
