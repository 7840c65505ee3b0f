from medseg_kd.cli import run
from medseg_kd.cli.report import main

if __name__ == "__main__":
    run(main)
