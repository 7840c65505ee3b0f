#!/usr/bin/env bash
# Test on several GPUs of this machine: tools/dist_test.sh CONFIG GPUS [options of test.py]
MEDSEG_KD_SCRIPT=test.py MEDSEG_KD_CALLED=$0 exec "$(dirname "$0")/dist_train.sh" "$@"
