#!/bin/sh
# Builds the release of dist/ once more, from a clone in another folder with a virtual environment and tools of its own, and compares.
# Only the caches of Go and uv are shared, which keep what they have by its content.
set -eu
sums=$PWD/dist/SHA256SUMS
elsewhere=$(mktemp -d -t dpuchain-release-XXXXXX)
trap 'rm -rf "$elsewhere"' EXIT
trap 'exit 1' INT TERM
git clone --quiet . "$elsewhere/clone"
GOCACHE=$(go env GOCACHE) UV_CACHE_DIR=$(.venv/bin/uv cache dir) XDG_CACHE_HOME="$elsewhere/cache" make --silent -C "$elsewhere/clone" release
diff "$sums" "$elsewhere/clone/dist/SHA256SUMS"
echo "both builds are equal, byte for byte"
