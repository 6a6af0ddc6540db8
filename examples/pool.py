"""A process pool of which one worker crashes: docs/recipes.rst shows it."""

import concurrent.futures

import faulthandler


def work(number):
    """Crash in one of the jobs."""
    faulthandler.context.set("job %d" % number)
    if number == 3:
        faulthandler.sigsegv()
    return number


def main():
    """Give five jobs to a worker."""
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        try:
            print(list(pool.map(work, range(5))))
        except concurrent.futures.process.BrokenProcessPool as error:
            print(type(error).__name__)


if __name__ == "__main__":
    main()
