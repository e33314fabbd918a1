#!/usr/bin/env bash
# N processes of the main command on this machine, on its CPU: launch/README.md.
#
#     launch/local.sh N [arguments of alexnet_jax.main ...]
set -euo pipefail

trap '' PIPE # The reader of the output may close it.
say() { echo "local.sh: $*" >&2 || true; }

processes=${1-}
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
  say "error: the number of processes comes first, not '$processes': local.sh N [ARGUMENT ...]"
  exit 2
fi
shift

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${PYTHON-} && -x $root/.venv/bin/python ]]; then PYTHON=$root/.venv/bin/python; fi
python=${PYTHON:-python}
if ! "$python" -c 'import importlib.util as u; exit(u.find_spec("alexnet_jax") is None)'; then
  say "error: $python has no alexnet_jax: install it, or set PYTHON to one that has it"
  exit 2
fi

heartbeat=30 # The main command's default.
previous=
for argument; do
  case $argument in --heartbeat=*) heartbeat=${argument#*=} ;; esac
  if [[ $previous == --heartbeat ]]; then heartbeat=$argument; fi
  previous=$argument
done
heartbeat=${heartbeat%%.*}
if ! [[ $heartbeat =~ ^[0-9]{1,6}$ ]]; then heartbeat=30; fi # The main command refuses it.
grace=${GRACE:-$((10#$heartbeat + 15))}
restarts=${RESTARTS:-100}

export JAX_PLATFORMS=cpu JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo
if [[ -n ${DEVICES-} ]]; then
  export XLA_FLAGS="${XLA_FLAGS-} --xla_force_host_platform_device_count=$DEVICES"
fi

pids=()     # by process
statuses=() # of ended processes
first=      # process that ended first with a nonzero status
left=0      # number of running processes
requests=0  # number of stop requests

start() {
  local port i
  # A free port below the ephemeral ports, a new one for each start.
  while port=$((10000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  pids=() statuses=() first=
  set -m # Each has its own process group, so that it can be killed with its children.
  for ((i = 0; i < processes; i++)); do
    "$python" -m alexnet_jax.main "$@" \
      --processes="$processes" --process="$i" --coordinator="127.0.0.1:$port" </dev/null &
    pids[i]=$!
  done
  set +m
}

look() { # Updates statuses, first and left.
  local i
  left=0
  for i in "${!pids[@]}"; do
    if [[ -n ${statuses[i]-} ]]; then continue; fi
    if kill -0 "${pids[i]}" 2>/dev/null; then
      left=$((left + 1))
      continue
    fi
    statuses[i]=0
    wait "${pids[i]}" || statuses[i]=$?
    if ((statuses[i])) && [[ -z $first ]]; then first=$i; fi
  done
}

signal() { # Sends signal $1 to the running processes, or to their groups if $2 is a minus sign.
  local i
  for i in "${!pids[@]}"; do
    if [[ -z ${statuses[i]-} ]]; then kill -s "$1" -- "${2-}${pids[i]}" 2>/dev/null || true; fi
  done
}

asked_to_stop() {
  requests=$((requests + 1))
  if ((requests == 1)); then
    signal TERM
  else
    signal KILL -
    wait "${pids[@]}" 2>/dev/null || true # Until they have ended.
    exit 1
  fi
}
trap asked_to_stop TERM INT
trap 'if ((requests == 0)); then asked_to_stop; fi' HUP # The terminal was closed. The signal may arrive twice.

all_ended_with() {
  local status
  for status in "${statuses[@]}"; do
    if ((status != $1)); then return 1; fi
  done
}

for ((restart = 1; ; restart++)); do
  start "$@"
  if ((requests)); then signal TERM; fi # Requested during the start.
  {
    while look; ((left)) && [[ -z $first ]]; do sleep 0.2 || true; done
    deadline=$((SECONDS + grace))
    while look; ((left && SECONDS < deadline)); do sleep 0.2 || true; done
    signal KILL -
    while look; ((left)); do sleep 0.1 || true; done
  } 2>/dev/null # Hides bash's messages about killed processes.

  if all_ended_with 0; then exit 0; fi
  if [[ " ${statuses[*]} " == *' 2 '* ]]; then exit 2; fi
  how="ended with status ${statuses[first]}"
  if ((statuses[first] > 128)); then how="was ended by signal $((statuses[first] - 128))"; fi
  if ((requests == 0 && restart <= restarts)); then
    say "process $first $how; all are started again ($restart of $restarts)"
    sleep 1 || true
  fi
  if ((requests || restart > restarts)); then
    say "process $first $how; not started again"
    if all_ended_with 75; then exit 75; fi
    exit 1
  fi
done
