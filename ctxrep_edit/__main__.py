"""`python -m ctxrep_edit` is the command line."""

from ctxrep_edit.cli import main

if __name__ == "__main__":
    main()
