#!/bin/sh
# Checks servers behind Debian's PgBouncer: which pool modes and pool sizes work, and which errors the others cause.
#
#     checks/pgbouncer/run.sh                           about two minutes
#
# The check needs Debian's package "pgbouncer", and installs it if it has the permission. It ends all processes that it
# has started.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

if ! command -v pgbouncer >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo 'Type first: sudo apt-get install pgbouncer' >&2; exit 2; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null
fi

node "$here/modes-and-sizes.ts"
