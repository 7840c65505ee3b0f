#!/usr/bin/env bash
# Test in the queue of a cluster: tools/slurm_test.sh PARTITION JOB CONFIG [options of test.py]
MEDSEG_KD_SCRIPT=test.py MEDSEG_KD_CALLED=$0 exec "$(dirname "$0")/slurm_train.sh" "$@"
