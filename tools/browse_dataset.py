from medseg_kd.cli import run
from medseg_kd.cli.browse_dataset import main

if __name__ == "__main__":
    run(main)
