#!/bin/sh
# Installs the Debian packages that are missing, naming them first. Their services are not started: the lab runs its own instances.
set -eu

wanted="openvswitch-switch containerd runc busybox-static ethtool tcpdump iproute2 iptables containernetworking-plugins util-linux procps
python3-venv prometheus openvswitch-switch-dpdk librte-net-af-packet23 librte-mempool-ring23 mmdebstrap"
policy=/usr/sbin/policy-rc.d

stop() { echo "$1" >&2; exit 1; }

missing=
for package in $wanted; do
  dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "missing Debian packages:$missing"
[ "$(id -u)" = 0 ] || stop "they cannot be installed without root: run \`apt-get install$missing\` as root"

if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"   # what invoke-rc.d asks before it starts a service; 101: it may not
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install="apt-get install --yes --no-install-recommends"
# The lists may be older than the archive: fetch them anew only if they are not good enough.
# shellcheck disable=SC2086  # both are lists of words
$install $missing || { apt-get update && $install $missing; } || stop "apt-get could not install:$missing"
