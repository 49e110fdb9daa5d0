#!/usr/bin/env bash
# A real S3 server for the tests: Ceph's RADOS gateway over one monitor and one OSD, on loopback, from Debian's packages.
#
#   s3_server.sh install      install the packages (needs root and apt-get)
#   s3_server.sh start DIR    start it; prints S3_ENDPOINT=…, AWS_ACCESS_KEY_ID=…, AWS_SECRET_ACCESS_KEY=…
#   s3_server.sh stop  DIR    end the processes started in DIR, and only those
#
# S3_PORT is its port (7480); everything it writes is below DIR. Left out: more than one start of the same DIR.
set -euo pipefail
umask 077
export LC_ALL=C
PACKAGES=(ceph-mon ceph-osd radosgw ceph-common)
TRIES=600 # of a tenth of a second, for each daemon to answer

die() { echo "s3_server: $*" >&2; exit 1; }

install() {
  command -v radosgw >/dev/null && command -v ceph-mon >/dev/null && command -v ceph-osd >/dev/null && return
  [ "$(id -u)" = 0 ] || die "expected to be root, to install ${PACKAGES[*]}"
  command -v apt-get >/dev/null || die "expected apt-get, to install ${PACKAGES[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -q --no-install-recommends "${PACKAGES[@]}" >&2 && return
  apt-get update -q >&2 && apt-get install -y -q --no-install-recommends "${PACKAGES[@]}" >&2 ||
    die "apt-get could not install ${PACKAGES[*]}"
}

free_port() { # the first one from $1 that nothing listens on
  local port=$1
  while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

launch() { # NAME COMMAND…: in the background; its id and start time are kept, so that no other process is ever ended
  local name=$1 pid
  shift
  setsid "$@" </dev/null >"$DIR/log/$name.out" 2>&1 &
  pid=$!
  echo "$pid $(started "$pid")" >"$DIR/$name.pid"
}

started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

alive() { # NAME: print its id where it is still the process that was started
  local pid begun
  read -r pid begun 2>/dev/null <"$DIR/$1.pid" || return 1
  [ -n "$begun" ] && [ "$(started "$pid")" = "$begun" ] && echo "$pid"
}

await() { # NAME COMMAND…: until the command succeeds
  local name=$1 try
  shift
  for ((try = 0; try < TRIES; try++)); do
    "$@" >/dev/null 2>&1 && return
    alive "$name" >/dev/null || break
    sleep 0.1
  done
  tail -n 12 "$DIR/log/$name.out" "$DIR/log/ceph.log" >&2 || true
  stop
  die "$name did not start"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && read -r -t 5 _ <&3) 2>/dev/null; }
ceph_() { timeout 30 ceph -c "$DIR/ceph.conf" --connect-timeout 10 "$@"; }
random() { head -c 256 /dev/urandom | base64 -w0 | tr -dc 'A-Za-z0-9' | head -c "$1"; }

configure() { # MONITOR_PORT S3_PORT FSID
  cat >"$DIR/ceph.conf" <<C
[global]
fsid = $3
mon host = [v2:127.0.0.1:$1]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind ipv6 = false
auth allow insecure global id reclaim = false
keyring = $DIR/keyring
run dir = $DIR/run
crash dir = $DIR/run
admin socket =
log file = $DIR/log/ceph.log
mon cluster log file = $DIR/log/cluster.log
paxos propose interval = 0.05
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
mon data = $DIR/mon
osd data = $DIR/osd
osd objectstore = bluestore
osd crush initial weight = 1
crush location = root=default host=local
bluestore block size = 8589934592
rgw data = $DIR/rgw
rgw frontends = beast endpoint=127.0.0.1:$2 tcp_nodelay=1
rgw rados pool pg num min = 8
rgw thread pool size = 64
C
}

start() {
  local fsid osd_id monitor port=${S3_PORT:-7480} key secret all=(--cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *')
  [ ! -e "$DIR/ceph.conf" ] || die "expected an empty folder, found $DIR/ceph.conf: stop, remove $DIR, start again"
  ! answers "$port" || die "port $port is in use: give another one in S3_PORT"
  mkdir -p "$DIR"/{log,run,mon,osd,rgw}
  fsid=$(</proc/sys/kernel/random/uuid) osd_id=$(</proc/sys/kernel/random/uuid)
  monitor=$(free_port $((16000 + RANDOM % 8000)))
  configure "$monitor" "$port" "$fsid"
  {
    ceph-authtool --create-keyring "$DIR/keyring" --gen-key -n mon. --cap mon 'allow *'
    for name in client.admin client.rgw osd.0; do ceph-authtool "$DIR/keyring" --gen-key -n "$name" "${all[@]}"; done
    monmaptool --create --addv a "[v2:127.0.0.1:$monitor]" --fsid "$fsid" "$DIR/monmap"
    ceph-mon -c "$DIR/ceph.conf" --mkfs -i a --monmap "$DIR/monmap" --keyring "$DIR/keyring"
  } >"$DIR/log/made.out" 2>&1 || die "could not make the monitor: see $DIR/log/made.out"
  launch mon ceph-mon -c "$DIR/ceph.conf" -i a -f
  await mon ceph_ mon stat
  {
    ceph_ osd new "$osd_id" && timeout 120 ceph-osd -c "$DIR/ceph.conf" -i 0 --mkfs --osd-uuid "$osd_id"
  } >>"$DIR/log/made.out" 2>&1 || { stop; die "could not make the OSD: see $DIR/log/made.out"; }
  launch osd ceph-osd -c "$DIR/ceph.conf" -i 0 -f
  await osd grep -q 'state: booting -> active' "$DIR/log/ceph.log"
  launch rgw radosgw -c "$DIR/ceph.conf" -n client.rgw -f
  await rgw answers "$port"
  key=$(random 20) secret=$(random 40)
  timeout 60 radosgw-admin -c "$DIR/ceph.conf" user create --uid=test --display-name=test --access-key="$key" \
    --secret="$secret" >"$DIR/log/user.out" 2>&1 || { stop; die "could not make a user: see $DIR/log/user.out"; }
  printf '%s\n' "S3_ENDPOINT=http://127.0.0.1:$port" "AWS_ACCESS_KEY_ID=$key" "AWS_SECRET_ACCESS_KEY=$secret"
}

stop() { # the gateway first: without its OSD it would wait for ever
  local name pid try
  for name in rgw osd mon; do
    pid=$(alive "$name") || continue
    kill -TERM "$pid" 2>/dev/null || true
    for ((try = 0; try < 200; try++)); do alive "$name" >/dev/null || break; sleep 0.1; done
    ! alive "$name" >/dev/null || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$DIR/$name.pid"
  done
}

case "${1:-} $#" in
  "install 1") install ;;
  "start 2") mkdir -p "$2"; DIR=$(cd "$2" && pwd); start ;;
  "stop 2") [ -d "$2" ] || exit 0; DIR=$(cd "$2" && pwd); stop ;;
  *) die "expected: install, start DIR or stop DIR" ;;
esac
