"""``python -m halfbyte.eval``: the report's measures in a shell."""

import sys

from halfbyte.eval import main

if __name__ == "__main__":
    sys.exit(main())
