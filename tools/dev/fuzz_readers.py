"""Feed a reader with damaged files, guided by the code that they reach; only the library's own error may come back.

    python tools/dev/fuzz_readers.py npz --seconds 600

Exit code 0 says that no file made it raise anything else, take longer than ``--timeout``, or need more than
``--mebibytes`` beyond what was used before; headers may tell of 8 MiB here. A file that does is written into ``--out``,
where also those are kept that reach new code: the next run begins with them.
"""

import argparse
import contextlib
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    import atheris
except ImportError as error:
    raise SystemExit("fuzzing needs atheris: pip install -r requirements-dev.txt, on Linux") from error

with atheris.instrument_imports(include=["gzip", "json", "PIL", "zipfile"]):
    import gzip  # noqa: F401
    import json  # noqa: F401
    import zipfile  # noqa: F401

    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin  # noqa: F401

import mmcv.transforms  # noqa: F401  # without instruments, which slow it down
import mmengine.dataset  # noqa: F401
import scipy.ndimage  # noqa: F401

with atheris.instrument_imports(include=["medseg_kd"]):
    from medseg_kd.cli import run
    from medseg_kd.datasets.headers import VARIABLE
    from medseg_kd.errors import UserError
    from sample_folders import SAMPLES, read_sample, write_sample


def main(argv: Sequence[str] | None = None) -> None:
    """Fuzz one reader; libFuzzer prints the counts and ends the process."""
    parser = argparse.ArgumentParser(prog="fuzz_readers.py", description="Try a reader on damaged files.")
    parser.add_argument("reader", choices=SAMPLES)
    parser.add_argument("--seconds", type=int, default=600, help="how long (%(default)s)")
    parser.add_argument("--timeout", type=int, default=10, help="seconds that one file may take (%(default)s)")
    parser.add_argument("--mebibytes", type=int, default=256, help="memory that reading may take (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzzed"), help="folder for files (%(default)s)")
    args = parser.parse_args(argv)
    os.environ[VARIABLE] = str(1 << 20)
    sample, out = SAMPLES[args.reader], args.out / args.reader
    data, corpus = out / "data", out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "valid").write_bytes(write_sample(sample, data))
    read_sample(sample, data)  # what is imported late is no memory of a reader

    def read(content: bytes) -> None:
        (data / sample.file).write_bytes(content)
        with contextlib.suppress(UserError):
            read_sample(sample, data)

    limits = {
        "max_total_time": args.seconds,
        "timeout": args.timeout,
        "rss_limit_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) + args.mebibytes,
        "seed": args.seed,
        "max_len": 1 << 14,
        "print_final_stats": 1,
        "artifact_prefix": f"{out}/",
    }
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in limits.items()), str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    run(main)
