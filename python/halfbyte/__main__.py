"""``python -m halfbyte``: the ``halfbyte`` command."""

from halfbyte._command import main

main()
