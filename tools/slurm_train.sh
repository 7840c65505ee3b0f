#!/usr/bin/env bash
# Train in the queue of a cluster: tools/slurm_train.sh PARTITION JOB CONFIG [options of train.py]
# GPUS (default 1), GPUS_PER_NODE (at most 8), CPUS_PER_TASK (default 4) and SRUN_ARGS are taken from the environment.
set -euo pipefail
if [ $# -lt 3 ]; then echo "usage: ${MEDSEG_KD_CALLED:-$0} PARTITION JOB CONFIG [options of ${MEDSEG_KD_SCRIPT:-train.py}]" >&2; exit 2; fi
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-1}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# Without quotes: SRUN_ARGS holds several words.
exec srun --partition "$partition" --job-name "$job" --ntasks "$gpus" --ntasks-per-node "$per_node" \
  --gres "gpu:$per_node" --cpus-per-task "${CPUS_PER_TASK:-4}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  python -u "$(dirname "$0")/../${MEDSEG_KD_SCRIPT:-train.py}" "$config" --launcher slurm "$@"
