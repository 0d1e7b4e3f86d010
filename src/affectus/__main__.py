"""``python -m affectus``."""

from affectus.cli.main import run

if __name__ == "__main__":
    run()
