#!/usr/bin/env bash
# The main command as a Slurm job of several nodes, for sbatch: launch/README.md.
#
#     sbatch [options, which replace those below] launch/slurm.sh [arguments of alexnet_jax.main ...]
#
# A cluster without GPUs refuses every request for them, so none stands here. On one with GPUs:
# --gpus-per-node=8, and one task a node, which takes all of them, or --ntasks-per-node=8, one task
# a GPU. Not --gpus-per-task: each task would see one GPU, as number 0.
# In the arguments %a is the number in a job array, as in sbatch's own file names:
# --array=0-4 ... --config.seed=%a --workdir=runs/seed-%a.
#SBATCH --job-name=alexnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM this many seconds before the end (Slurm may be a minute early): enough for a step and a
# checkpoint. Without `B:` it goes to the tasks and not to this script, which so needs no trap.
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
  say "error: $gpus GPUs and $tasks tasks a node; allowed: --ntasks-per-node=1, or one task a GPU"
  exit 2
fi

restarts=${RESTARTS:-100}
again=${SLURM_RESTART_COUNT:-0}

# When a process is lost the others end by themselves within the heartbeat + 10 s (30 + 10), and
# after a request to stop all end once all is saved. --kill-on-bad-exit=1 would kill, at the first
# that ends, those that are not through; --wait kills only what hangs.
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
