#!/bin/sh
# Signs people in to Doorbell at an application with better-auth, in Chromium.
#
#     checks/better-auth-login/run.sh                   half a minute
#
# The packages come from npm, in the versions of package.json. They are installed in a folder for temporary files. The
# check needs Chromium.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$here/package.json" "$here/provider.mjs" "$folder"
npm install --prefix "$folder" --no-audit --no-fund --silent
node "$here/check.ts" "$folder"
