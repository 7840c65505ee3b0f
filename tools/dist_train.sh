#!/usr/bin/env bash
# Train on several GPUs of this machine: tools/dist_train.sh CONFIG GPUS [options of train.py]
# On several machines set NNODES, NODE_RANK, MASTER_ADDR (the first machine) and PORT on each.
set -euo pipefail
if [ $# -lt 2 ]; then echo "usage: ${MEDSEG_KD_CALLED:-$0} CONFIG GPUS [options of ${MEDSEG_KD_SCRIPT:-train.py}]" >&2; exit 2; fi
config=$1 gpus=$2
shift 2
rendezvous=(--standalone)
if [ "${NNODES:-1}" -gt 1 ]; then
  rendezvous=(--nnodes "$NNODES" --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "${PORT:-29500}")
fi
exec python -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node "$gpus" \
  "$(dirname "$0")/../${MEDSEG_KD_SCRIPT:-train.py}" "$config" --launcher pytorch "$@"
