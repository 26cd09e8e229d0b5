"""``python -m halfbyte.curate``: cleaning prompts and responses in a shell."""

import sys

from halfbyte.curate import main

if __name__ == "__main__":
    sys.exit(main())
