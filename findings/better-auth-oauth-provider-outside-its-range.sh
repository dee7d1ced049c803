#!/bin/sh
# Package:   @better-auth/oauth-provider 1.7.5 (with better-auth 1.7.25)
# Set-up:    Both packages are installed with npm. The peer dependency of the provider allows the version: ^1.7.5.
# Guess:     They can be installed together.
# Behaviour: npm refuses (ERESOLVE). The provider also has exact peer dependencies: better-call 1.4.0 and
#            @better-auth/utils 0.4.2. better-auth 1.7.25 depends on better-call ~1.4.5, which needs another version of
#            @better-auth/utils. The same happens with better-auth 1.7.5, unless @better-auth/core is pinned too, because the
#            peer dependency on it is resolved to the newest version.
# Output:    with 1.7.25: ERESOLVE; with 1.7.5: ERESOLVE; with 1.7.5 and @better-auth/core 1.7.5: installed
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

outcome() {
  rm -rf node_modules package.json package-lock.json
  npm init -y >/dev/null
  if npm install --silent --no-audit --no-fund "$@" @better-auth/oauth-provider@1.7.5 >/dev/null 2>install.log; then
    echo installed
  elif npm install --no-audit --no-fund "$@" @better-auth/oauth-provider@1.7.5 2>&1 | grep -q ERESOLVE; then
    echo ERESOLVE
  else
    echo 'another error'
  fi
}

newest=$(outcome better-auth@1.7.25)
same=$(outcome better-auth@1.7.5)
pinned=$(outcome better-auth@1.7.5 @better-auth/core@1.7.5)
line="with 1.7.25: $newest; with 1.7.5: $same; with 1.7.5 and @better-auth/core 1.7.5: $pinned"
echo "$line"
[ "$line" = 'with 1.7.25: ERESOLVE; with 1.7.5: ERESOLVE; with 1.7.5 and @better-auth/core 1.7.5: installed' ]
