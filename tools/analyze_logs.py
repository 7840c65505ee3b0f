from medseg_kd.cli import run
from medseg_kd.cli.analyze_logs import main

if __name__ == "__main__":
    run(main)
