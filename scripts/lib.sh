# Shared by the scripts of this folder (bash): progress lines and stamps. Source it, do not run it.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=$root/.build
venv=$root/.venv
# Debian leaves /sbin out of an unprivileged user's PATH; ip, iptables and modprobe live there.
export PATH="$PATH:/usr/sbin:/sbin"
mkdir -p "$build/logs" "$build/stamps" 2>/dev/null || {
  echo "phalanx: cannot write to $root; use a checkout of your own" >&2
  exit 1
}

# Progress goes to standard error: standard output belongs to the command behind it.
say() { printf '[%2d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# Says every now and then how far a step is, by the last line of its log, until it is ended.
_watch() { # LABEL LOG
  local label=$1 log=$2 every=15 last never
  if [[ -t 2 ]]; then every=1; fi
  # A timed read from a pipe that stays empty: a `sleep` would outlive its parent and hold our output open.
  exec {never}<> <(:)
  while kill -0 $$ 2>/dev/null; do
    read -rt "$every" -u "$never" || true
    # Some tools rewrite one line for ever, some warn at length; the last plain line says most.
    last=$(tail -n 20 "$log" 2>/dev/null | tr '\r' '\n' | tr -cd '[:print:]\n' |
      sed -n '/WARNING/!{s/^ *//; /./h}; ${x;p}' || true)
    if [[ -t 2 ]]; then
      printf '\r\033[K[%2d:%02d] %s: %.70s' $((SECONDS / 60)) $((SECONDS % 60)) "$label" "$last" >&2
    else
      say "$label: ${last:0:100}"
    fi
  done
}

watcher=
_end_watch() {
  if [[ -n $watcher ]]; then
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    watcher=
    if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  fi
}
# A tool that catches Ctrl-C ends with an ordinary status; without the trap we would go on after it.
trap 'exit 130' INT
trap _end_watch EXIT

# Runs a command with its output in a log; a failing one shows the tail of its log.
step() { # LABEL COMMAND...
  local label=$1 began=$SECONDS status=0
  local log="$build/logs/${label//[^a-zA-Z0-9]/-}.log"
  shift
  say "$label ..."
  : >"$log"
  _watch "$label" "$log" </dev/null >/dev/null &
  watcher=$!
  # In the foreground, so that Ctrl-C reaches the command too.
  "$@" </dev/null >"$log" 2>&1 || status=$?
  _end_watch
  if ((status != 0)); then
    say "$label: FAILED with status $status; the end of $log:"
    tail -n 40 "$log" | sed 's/^/    /' >&2
    return "$status"
  fi
  say "$label: done in $((SECONDS - began)) s"
}

# A stamp holds a digest of everything that a step depended on; it is written when the step is done.
stamp_fresh() { [[ -f $build/stamps/$1 && $(<"$build/stamps/$1") == "$2" ]]; } # NAME DIGEST
stamp_write() { # NAME DIGEST
  printf '%s\n' "$2" >"$build/stamps/$1.new"
  mv "$build/stamps/$1.new" "$build/stamps/$1"
}
digest() { cat -- "$@" | sha256sum | cut -d' ' -f1; } # FILE...
