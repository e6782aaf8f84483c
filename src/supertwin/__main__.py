"""`python -m supertwin`."""

import sys

from supertwin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
