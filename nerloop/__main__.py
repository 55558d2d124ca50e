"""`python -m nerloop` is `nerloop`; launchers such as `torchrun -m nerloop finetune …` need it."""

from nerloop.cli import main

if __name__ == "__main__":
    main()
