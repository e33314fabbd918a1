#!/usr/bin/env bash
# The main command on all workers of a Cloud TPU VM, from a machine with gcloud: launch/README.md.
#
#     NAME=TPU ZONE=ZONE PROJECT=PROJECT launch/tpu_vm.sh [arguments of alexnet_jax.main ...]
set -euo pipefail

say() { echo "tpu_vm.sh: $*" >&2; }

for variable in NAME ZONE PROJECT; do
  if [[ -z ${!variable-} ]]; then
    say "error: $variable is not set: NAME=TPU ZONE=ZONE PROJECT=PROJECT tpu_vm.sh [ARGUMENT ...]"
    exit 2
  fi
done
folder=${FOLDER:-alexnet_jax} # Of the repository on each worker, in the home folder.
restarts=${RESTARTS:-100}

on_workers() { # $1: which; $2: the command
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --project="$PROJECT" \
    --worker="$1" --command="$2" </dev/null
}

# The lock prevents a process whose connection was lost from running beside its successor. The
# successor waits longer than the other processes need to end after a loss. `exec` keeps the lock and
# the process id in .launch.pid.
printf -v command 'cd %q && exec 9>.launch.lock && flock -w 120 9 && echo $$ >.launch.pid && exec %q -m alexnet_jax.main' \
  "$folder" "${PYTHON:-.venv/bin/python}"
for argument in "$@" --processes=auto; do printf -v command '%s %q' "$command" "$argument"; done

requests=0
ask() { # A request to one process stops all of them.
  requests=$((requests + 1))
  say 'asking the run to stop; it saves first'
  # Only a held lock shows that the process id is still that of the run.
  on_workers 0 "cd $(printf %q "$folder") && ! flock -n .launch.lock true && kill -TERM \$(cat .launch.pid)" ||
    say 'worker 0 could not be asked; try again'
}
trap ask TERM INT

for ((restart = 1; ; restart++)); do
  set -m # Its own process group, which Ctrl-C does not reach, so that it continues to print.
  on_workers all "$command" &
  set +m
  while kill -0 $! 2>/dev/null; do wait $! || true; done # A signal ends the wait, not the process.
  status=0
  wait $! || status=$?
  # gcloud's status is that of the first worker, by number, whose status is not 0; 255 is a lost
  # connection.
  if ((status == 0 || status == 2)); then exit "$status"; fi
  if ((requests || restart > restarts)); then
    say "ended with status $status; not started again"
    exit "$status"
  fi
  say "ended with status $status; started again ($restart of $restarts)"
  sleep "${PAUSE:-30}" || true # gcloud itself tries ten times to connect.
  if ((requests)); then exit 75; fi
  state=$(gcloud compute tpus tpu-vm describe "$NAME" --zone="$ZONE" --project="$PROJECT" \
    --format='value(state)' || true)
  if [[ $state == PREEMPTED || $state == TERMINATED ]]; then
    say "error: $NAME is $state: make another, and run the same command"
    exit 75
  fi
done
