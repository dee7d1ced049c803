#!/bin/sh
# Signs people in to Doorbell at a real Keycloak, in Chromium.
#
#     checks/keycloak-login/run.sh                      about two minutes, and a download of 170 MB the first time
#
# Keycloak comes from Maven Central (org.keycloak:keycloak-quarkus-dist). The check needs Maven, Java 17 or newer, and
# Chromium. The archive is kept in the folder that LOGIN_CHECKS_CACHE names, by default in the folder for temporary
# files. With KEYCLOAK_LOG=1, the log of Keycloak is shown.
set -eu

version=26.7.3
here=$(cd "$(dirname "$0")" && pwd)
cache=${LOGIN_CHECKS_CACHE:-${TMPDIR:-/tmp}/doorbell-login-checks}
archive=$cache/keycloak-quarkus-dist-$version.tar.gz

command -v mvn >/dev/null || { echo 'Type first: sudo apt-get install maven' >&2; exit 2; }
if [ ! -f "$archive" ]; then
  mvn -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact=org.keycloak:keycloak-quarkus-dist:$version:tar.gz -DoutputDirectory="$cache"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tar -xzf "$archive" -C "$folder"
node "$here/check.ts" "$folder/keycloak-$version"
