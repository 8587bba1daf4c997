"""`python -m ctxrep_plugins.nano.training`."""

from ctxrep_plugins.nano.training.command import main

if __name__ == "__main__":
    main()
