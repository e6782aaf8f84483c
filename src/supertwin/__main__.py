"""`python -m supertwin`."""

import sys

from supertwin.cli.main import main

sys.exit(main())
