from medseg_kd.cli import run
from medseg_kd.cli.list_taps import main

if __name__ == "__main__":
    run(main)
