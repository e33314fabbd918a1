#!/usr/bin/env bash
# The main command as a Slurm job of several nodes, for sbatch: launch/README.md.
#
#     sbatch [options, which replace those below] launch/slurm.sh [arguments of alexnet_jax.main ...]
#
# A cluster without GPUs refuses every request for GPUs, so this script has none. On a cluster with
# GPUs, add --gpus-per-node=8, with one task per node, which uses all of them, or with
# --ntasks-per-node=8, one task per GPU. With --gpus-per-task each task would see its GPU as number 0.
# In the arguments %a is replaced by the array index, as in sbatch's own file names:
# --array=0-4 ... --config.seed=%a --workdir=runs/seed-%a.
#SBATCH --job-name=alexnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM this many seconds before the end (Slurm may be a minute early): enough for a step and a
# checkpoint. Without `B:` the tasks receive it, and this script does not.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

say() { echo "slurm.sh: $*" >&2; }

# Under Slurm JAX gives each task one device, that of its number on the node, unless JAX_LOCAL_DEVICE_IDS is set.
gpus=${SLURM_GPUS_ON_NODE:-0}
tasks=${SLURM_NTASKS_PER_NODE:-1}
if ((gpus > 1 && tasks == 1)); then
  export JAX_LOCAL_DEVICE_IDS="${JAX_LOCAL_DEVICE_IDS:-$(seq -s, 0 $((gpus - 1)))}"
elif ((gpus && gpus != tasks)); then
  say "error: $gpus GPUs and $tasks tasks per node; allowed: --ntasks-per-node=1, or one task per GPU"
  exit 2
fi

restarts=${RESTARTS:-100}
again=${SLURM_RESTART_COUNT:-0}

# When a process is lost, the others end within heartbeat + 10 s (30 + 10). After a stop request each
# ends when everything is saved. --kill-on-bad-exit=1 would kill the others when the first one ends;
# --wait kills only those that hang.
status=0
srun --kill-on-bad-exit=0 --wait="${GRACE:-60}" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  "${PYTHON:-python}" -m alexnet_jax.main "${@//%a/${SLURM_ARRAY_TASK_ID-%a}}" --processes=auto || status=$?

if ((status == 0 || status == 2)); then exit "$status"; fi
if ((status != 75 && again >= restarts)); then
  say "ended with status $status; not queued again after $again restarts"
  exit "$status"
fi
say "ended with status $status; queued again (restart $((again + 1)))"
scontrol requeue "$SLURM_JOB_ID"
