"""`llm-optimizer serve` under cProfile from SIGUSR1 on: `python -m bench.profiled FILE`.

The profile is written to the file when the server has ended.
"""

import cProfile
import signal
import sys

from cli.main import app

if __name__ == "__main__":
    profile = cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    written, sys.argv = sys.argv[1], ["llm-optimizer", "serve", "--port", "0"]
    try:
        app()
    finally:
        profile.disable()
        profile.dump_stats(written)
