#!/bin/sh
# Checks that the SQL of "doorbell migrate --print" can be executed with Debian's sqlite3 and psql, and that after an error
# nothing of the failed migration and of the later ones is in the database.
#
#     checks/printed-migrations/run.sh                  some seconds
#
# The check needs Debian's packages "sqlite3" and "postgresql-client", and installs them if it has the permission.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

if ! command -v sqlite3 >/dev/null || ! command -v psql >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo 'Type first: sudo apt-get install sqlite3 postgresql-client' >&2; exit 2; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends sqlite3 postgresql-client >/dev/null
fi

node "$here/with-both-programs.ts"
