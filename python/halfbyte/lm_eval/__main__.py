"""``python -m halfbyte.lm_eval``: lm-eval's command line with halfbyte's models."""

from halfbyte.lm_eval import main

main()
