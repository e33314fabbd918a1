#!/usr/bin/env bash
# The main command as a Slurm job of several nodes, for sbatch: launch/README.md.
#
#     sbatch [options that take the place of those below] launch/slurm.sh [arguments of alexnet_jax.main ...]
#
#SBATCH --job-name=alexnet
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
# One task a GPU: under Slurm, JAX gives each process the one device of its place on the node
# (docs of jax.distributed.initialize). Not --gpus-per-task: each would see one GPU, as number 0.
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM this many seconds before the end (Slurm may be a minute early): enough for a step and a
# checkpoint. Without `B:` it goes to the tasks and not to this script, which so needs no trap.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

restarts=${RESTARTS:-100}
again=${SLURM_RESTART_COUNT:-0}

# When a process is lost the others end by themselves within the heartbeat + 10 s (30 + 10), and
# after a request to stop all end once all is saved. --kill-on-bad-exit=1 would kill, at the first
# that ends, those that are not through; --wait kills only what hangs.
status=0
srun --kill-on-bad-exit=0 --wait="${GRACE:-60}" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  "${PYTHON:-python}" -m alexnet_jax.main "$@" --processes=auto || status=$?

if ((status == 0 || status == 2)); then exit "$status"; fi
if ((status != 75 && again >= restarts)); then
  echo "slurm.sh: ended with status $status; not queued again after $again restarts" >&2
  exit "$status"
fi
echo "slurm.sh: ended with status $status; queued again (restart $((again + 1)))" >&2
scontrol requeue "$SLURM_JOB_ID"
