from medseg_kd.cli import run
from medseg_kd.cli.print_config import main

if __name__ == "__main__":
    run(main)
